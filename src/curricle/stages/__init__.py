"""The grammar of a stage: prepare, train, evaluate, judge, and the gate behind it."""
