#!/usr/bin/env python3
"""Run notebooks so that the package is measured: `coverage run tools/cover_notebooks.py [notebook ...]`, all chapters by default.

A notebook defines what it exports in its own cells, so a plain run of its tests never touches semdedup/*.py. Here an exported cell takes
its names from the module instead; the cells beside it test that. A test that replaces a name in the notebook, to see what happens, cannot
reach into a module: such a cell is reported and passed over, and nbdev_test runs it.
"""
import os, sys
from pathlib import Path
from execnb.shell import CaptureShell
from nbdev.process import NBProcessor

ROOT = Path(__file__).resolve().parents[1]
FROM_MODULE = 'import importlib; globals().update({{k: v for k, v in vars(importlib.import_module("semdedup.{}")).items() if not k.startswith("__")}})'

def skipped(directives):
    "Is this a cell that does not run here?"
    return directives.get('eval:', [''])[0].lower() == 'false' or {'slow', 'cuda'} & directives.keys()

def cover(path):
    "Run one notebook; return how many of its cells failed."
    os.chdir(path.parent)
    shell, module, failed = CaptureShell(path), None, 0
    for cell in NBProcessor(path).nb.cells:
        directives = getattr(cell, 'directives_', {}) or {}
        if cell.cell_type != 'code' or skipped(directives) or 'nbdev_export' + '(' in cell.source: continue
        if 'default_exp' in directives: module = directives['default_exp'][0]
        if {'export', 'exports'} & directives.keys(): cell.source = FROM_MODULE.format(module)
        cell.outputs = []
        shell.cell(cell)
        if shell.exc:
            failed += 1
            print(f'{path.name}: {type(shell.exc).__name__} in {cell.source.strip().splitlines()[0][:100]!r}', flush=True)
    return failed

def main():
    os.environ['IN_TEST'] = '1'                                        # nbdev_export inside a notebook does nothing
    sys.path.insert(0, str(ROOT))
    paths = [Path(a).resolve() for a in sys.argv[1:]] or sorted((ROOT/'nbs').glob('[01]*.ipynb'))
    failed = sum(map(cover, paths))
    print(f'{failed} cells passed over.')

if __name__ == '__main__': main()
