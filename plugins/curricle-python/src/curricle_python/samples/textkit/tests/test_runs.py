from textkit import decode_runs, encode_runs, longest_run


def test_encode_runs():
    assert encode_runs("aaabcc") == [("a", 3), ("b", 1), ("c", 2)]
    assert encode_runs("") == []


def test_decode_runs():
    assert decode_runs([("a", 2), ("b", 1), ("c", 0), ("d", -1)]) == "aab"


def test_runs_round_trip():
    for text in ("", "a", "abba", "xxxyyyz"):
        assert decode_runs(encode_runs(text)) == text


def test_longest_run_is_the_first_of_equals():
    assert longest_run("abbcca") == ("b", 2)
    assert longest_run("aab") == ("a", 2)


def test_longest_run_of_nothing():
    assert longest_run("") == ("", 0)
