#!/usr/bin/env python3
"""Change a module in one small place at a time and see whether a test notices: `tools/mutate.py pruning pairwise --sample 200`

Each mutant runs the tests in a fork of a process that has numpy, torch and pandas loaded already, up to the first failure: seconds each.
(mutmut keeps all mutants of a module in one file and starts each function through a switch, which dataclasses do not survive;
cosmic-ray starts a Python, and loads torch, for each.) What survives is printed, with its line.
"""
import argparse, ast, copy, importlib.abc, importlib.util, os, random, signal, sys, time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
         ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
         ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
         ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And}

def in_place(node):
    "Ways to change one node: (what it becomes, a function that does it)."
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield SWAPS[type(node.ops[0])].__name__, lambda n: setattr(n, 'ops', [SWAPS[type(n.ops[0])](), *n.ops[1:]])
    if isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)) and type(node.op) in SWAPS:
        yield SWAPS[type(node.op)].__name__, lambda n: setattr(n, 'op', SWAPS[type(n.op)]())
    if isinstance(node, ast.Constant) and isinstance(node.value, bool): yield str(not node.value), lambda n: setattr(n, 'value', not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)): yield str(node.value + 1), lambda n: setattr(n, 'value', n.value + 1)
    if isinstance(node, (ast.If, ast.IfExp, ast.While)): yield 'if not', lambda n: setattr(n, 'test', ast.UnaryOp(ast.Not(), n.test))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Invert)): yield 'without sign', lambda n: setattr(n, 'op', ast.UAdd())
    if isinstance(node, (ast.Break, ast.Continue)): yield 'pass', None

def mutants(tree):
    "Each change as (line, which node, which of its changes, what it becomes). Annotations and texts of errors are left alone."
    for node in ast.walk(tree):
        for child in (getattr(node, 'annotation', None), getattr(node, 'returns', None), node if isinstance(node, (ast.Raise, ast.JoinedStr)) else None):
            for n in ast.walk(child) if child else (): n.skip = True
    for i, node in enumerate(ast.walk(tree)):
        if hasattr(node, 'skip'): continue
        for c, (what, _) in enumerate(in_place(node)): yield node.lineno, i, c, what

def changed(tree, i, c):
    "The source with one change."
    other = copy.deepcopy(tree)
    node = next(n for j, n in enumerate(ast.walk(other)) if j == i)
    _, change = list(in_place(node))[c]
    if change: change(node)
    else: node.__class__ = ast.Pass
    return ast.unparse(ast.fix_missing_locations(other))

class Instead(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    "Imports one module from a text."
    def __init__(self, name, source): self.name, self.source = name, source
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self, origin=str(ROOT/f'{name.replace(".", "/")}.py')) if name == self.name else None
    def get_source(self, name): return self.source

def fate(module, source, tests, seconds):
    "What becomes of a mutant, in a fork: 'alive' if all tests pass, 'noticed', or 'late': nobody knows whether a test would have noticed."
    import pytest
    pid = os.fork()
    if pid == 0:
        os.setpgrp(); signal.alarm(seconds)
        null = os.open(os.devnull, os.O_WRONLY); os.dup2(null, 1); os.dup2(null, 2)
        try:
            sys.meta_path.insert(0, Instead(f'semdedup.{module}', source))
            code = pytest.main(['-x', '-q', '-p', 'no:cacheprovider', *tests])
        except BaseException: code = 1
        os._exit(int(code))
    status = os.waitpid(pid, 0)[1]
    return 'late' if os.WIFSIGNALED(status) else 'noticed' if status else 'alive'

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('modules', nargs='+'); p.add_argument('--tests', nargs='+', default=['tests/test_engine.py'])
    p.add_argument('--only', default='', help='of these tests, what pytest -k means: those that start a Python of their own see no mutant')
    p.add_argument('--sample', type=int, help='so many of each module, drawn by chance; all if not given'); p.add_argument('--seed', type=int, default=0)
    p.add_argument('--seconds', type=int, default=120, help='a mutant that takes longer is late'); p.add_argument('--lines', help='only these: 100-200')
    a = p.parse_args()
    a.tests += ['-k', a.only]
    os.chdir(ROOT); sys.path.insert(0, str(ROOT))
    import hypothesis, numpy, pandas, pyarrow.parquet, pytest, sklearn.cluster, torch  # noqa: F401
    for module in a.modules:
        text = (ROOT/'semdedup'/f'{module}.py').read_text()
        if fate(module, text, a.tests, 10 * a.seconds) != 'alive': sys.exit(f'The tests fail without any change to {module}.')
        low, high = map(int, a.lines.split('-')) if a.lines else (0, 10**9)
        tree = ast.parse(text)
        every = [m for m in mutants(tree) if low <= m[0] <= high]
        chosen = random.Random(a.seed).sample(every, a.sample) if a.sample and a.sample < len(every) else every
        lines, count, start = text.splitlines(), Counter(), time.time()
        for line, i, c, what in sorted(chosen):
            end = fate(module, changed(tree, i, c), a.tests, a.seconds)
            count[end] += 1
            if end != 'noticed': print(f'{end}: {module}:{line}: {what}: {lines[line - 1].strip()[:160]}', flush=True)
        print(f'{module}: of {len(chosen)} mutants ({len(every)} there are) {count["noticed"]} were noticed, {count["alive"]} are alive, '
              f'{count["late"]} were late; {time.time() - start:.0f} s', flush=True)

if __name__ == '__main__': main()
