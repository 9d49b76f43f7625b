"""``python -m curricle.engine JOB.json``: a job in a process of its own.

Exit status: 0 with ``outcome.json`` beside the description, 3 with ``error.json`` when the user
can mend what failed, anything else for a defect, whose traceback is on standard error.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from curricle.engine.entry import execute
from curricle.errors import CurricleError
from curricle.launch.job import Job
from curricle.launch.run import USER_ERROR_EXIT


def main(description: Path) -> int:
    """Run the job that a file describes."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    job = Job.model_validate_json(description.read_text())
    try:
        result = execute(job)
    except CurricleError as error:
        description.with_name("error.json").write_text(json.dumps({"message": str(error)}))
        return USER_ERROR_EXIT
    description.with_name("outcome.json").write_text(result.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
