"""Runs a trusted module, such as `mypy`, without `site`: the first argument is its folder."""

import runpy
import sys

_, folder, module, *arguments = sys.argv
sys.path[:] = [folder, *(entry for entry in sys.path[1:] if entry)]
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
