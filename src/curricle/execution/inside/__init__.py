"""The trusted side of the sandbox: what runs between the machine and a candidate.

Only the standard library is imported here. These modules are started as scripts by an interpreter
without site-packages, and are mounted read-only where the runs are.
"""
