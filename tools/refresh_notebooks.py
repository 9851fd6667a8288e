#!/usr/bin/env python3
"""Run notebooks and save their outputs: `tools/refresh_notebooks.py [--flags "slow cuda"] [notebook ...]`, all of nbs/ by default.

Each notebook runs from top to bottom in a process of its own, as nbdev_test would run it: in its folder, without the cells
that say `#| eval: false` or carry one of the `tst_flags` of settings.ini, unless `--flags` names it. Cells that do not run
keep the outputs that they have. What goes to standard error (progress bars, warnings) is not saved; warnings are shown here.
Figures are saved as small PNGs. If a cell raises, that notebook stays as it was, the others go on, and the exit status is 1.
"""
import argparse, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, extract_directives

ROOT = Path(__file__).resolve().parents[1]
DPI = 80
UNSAVED = {'report.ipynb'}                                         # its outputs are a whole page, which lies in reports/
# Widgets are progress bars too. A PNG without the version of matplotlib in it changes only if the picture does.
WIDGET = 'application/vnd.jupyter.widget-view+json'
SET_UP = f"import matplotlib; matplotlib.rcParams['figure.dpi'] = {DPI}; set_matplotlib_formats('png', metadata={{'Software': None}})"

def skipped(cell, flags):
    "Is this a cell that does not run?"
    directives = extract_directives(cell, remove=False) if cell.cell_type == 'code' else {}
    return cell.cell_type != 'code' or directives.get('eval:', [''])[0].lower() == 'false' or bool(flags & directives.keys())

def not_saved(output):
    "Is this something that nobody wants to read in a saved notebook?"
    return output.get('name') == 'stderr' or WIDGET in output.get('data', {})

def complaints(cell):
    "The lines that a cell wrote to standard error, without progress bars."
    text = ''.join(''.join(o['text']) for o in cell.get('outputs', []) if o.get('name') == 'stderr')
    return [line for line in text.split('\n') if line.strip() and '\r' not in line]

def refresh(path, flags):
    "Run the notebook at `path` and save it with its outputs; return the seconds that it took, the error if any, and complaints."
    start, said = time.time(), []
    os.chdir(path.parent)
    os.environ |= {'IN_TEST': '1', 'SEMDEDUP_PROGRESS': '0'}       # IN_TEST: nbdev_export inside a notebook does nothing
    sys.path.insert(0, str(ROOT))
    front = NBProcessor(path, procs=FrontmatterProc, process=True).nb.frontmatter_
    if front.get('skip_exec'): return 0, None, ['skip_exec: not run']
    nb, shell = read_nb(path), CaptureShell(mpl_format='png')
    failure = shell.run_cell(SET_UP).exception
    if failure: raise failure
    for cell in nb.cells:
        if not skipped(cell, flags): cell.outputs = []             # run_all leaves the old ones where a cell has none

    def after(cell):
        if cell.cell_type != 'code': return
        said.extend(f'cell {cell.idx_}: {line}' for line in complaints(cell))
        cell.outputs = [o for o in cell.outputs if not not_saved(o)]

    try: shell.run_all(nb, exc_stop=True, preproc=lambda cell: skipped(cell, flags), postproc=after)
    except (Exception, SystemExit): return time.time() - start, shell.prettytb(path), said
    write_nb(nb, path)
    os.chdir(ROOT)                                                 # nbdev_clean looks for settings.ini from here
    nbdev_clean(str(path))
    return time.time() - start, None, said

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('notebooks', nargs='*', type=Path, help='all of nbs/ by default')
    parser.add_argument('--flags', default='', help='cells with these flags of settings.ini run as well')
    args = parser.parse_args()
    missing = [str(p) for p in args.notebooks if not p.is_file()]
    if missing: parser.error(f'no such notebook: {", ".join(missing)}')
    given = [p.resolve() for p in args.notebooks]
    os.chdir(ROOT)                                                 # where nbdev finds settings.ini
    flags = set(get_config().tst_flags.split()) - set(args.flags.split())
    paths, failed = given or sorted(p.resolve() for p in nbglob(as_path=True)), []
    for path in paths:
        if path.name in UNSAVED: continue
        # A pool for each: nothing is left of one notebook when the next begins, and one that kills its process stops alone.
        with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
            try: seconds, error, said = pool.submit(refresh, path, flags).result()
            except BrokenProcessPool: seconds, error, said = float('nan'), 'its process died', []
        print(f'{path.name:30} {seconds:6.1f} s{"  FAILED" if error else ""}', *said, sep='\n    ', flush=True)
        if error: print(error, file=sys.stderr); failed.append(path.name)
    if failed: sys.exit(f'Failed, and left as they were: {", ".join(failed)}')

if __name__ == '__main__': main()
