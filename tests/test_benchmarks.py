"""The benchmarks run, on a twentieth of their sizes."""
import json, subprocess, sys
from pathlib import Path
import pytest

SCRIPT = Path(__file__).parents[1]/'benchmarks'/'dedup.py'

@pytest.mark.skipif(not SCRIPT.exists(), reason='benchmarks/ is not here')
def test_a_part_of_the_benchmark_writes_what_it_measured(tmp_path):
    pytest.importorskip('faiss')
    out = tmp_path/'dedup.json'
    done = subprocess.run([sys.executable, SCRIPT, '--quick', '--only', 'iteration', '--out', out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding='utf-8'))
    assert set(result) == {'quick', 'machine', 'unit', 'parts'} and set(result['parts']) == {'iteration'}
    assert {'cpu', 'cores', 'memory_GB', 'versions'} <= set(result['machine'])
    rows = result['parts']['iteration']['rows']
    assert {r['method'] for r in rows} == {'bare product', 'bare product, one call (numpy)', 'semdedup', 'faiss', 'fast-pytorch-kmeans'}
    assert all(set(r) == {'shape', 'method', 'best', 'median', 'times_product'} and isinstance(r['best'], float) for r in rows)
    assert all(r['method'] in done.stdout for r in rows)

@pytest.mark.skipif(not SCRIPT.with_name('leaning.py').exists(), reason='benchmarks/ is not here')
def test_leanings_are_trained_once_and_compared(tmp_path):
    "What stands in the table already is not trained again: the second run changes nothing."
    out = tmp_path/'leaning.csv'
    def run(): return subprocess.run([sys.executable, SCRIPT.with_name('leaning.py'), '--quick', '--seeds', '2', '--out', out], capture_output=True, text=True)
    first, table = run(), out.read_bytes() if out.exists() else None
    assert first.returncode == 0 and table, first.stderr
    named = {line.split('|')[3].strip() for line in first.stdout.splitlines() if '%' not in line and 'fmnist-mini' in line}
    assert len(table.splitlines()) == 1 + 2 * 7 and named == {'draw the rare', 'draw the common, with space', 'draw the rare, with space',
                                                              'cover the common', 'cover both alike', 'cover the rare'}
    assert run().stdout == first.stdout and out.read_bytes() == table
