"""The heavy side: the only place that imports torch, transformers, trl, peft and datasets.

It may import everything else and is imported by nothing: ``curricle.launch`` starts it, in process
or as ``python -m curricle.engine JOB.json``.
"""
