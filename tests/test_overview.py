"""Several reports on one page: `semdedup overview`, over tables that other runs left."""
import json, shutil
from html.parser import HTMLParser
from pathlib import Path
import pandas as pd, pytest
from typer.testing import CliRunner
from semdedup.cli import app
from semdedup.core import UserError
from semdedup.answers import read_summary
from semdedup.reports import compare_reports, line_of, report_folders, verdicts
from semdedup.training import holm

HERE = Path(__file__).parents[1]/'reports'
EVIL = '<img src=x onerror=alert(1)>'

@pytest.fixture
def two(tmp_path):
    "The tables of two reports that come with the repository; one data set has an evil name."
    for name in 'fmnist', 'fmnist-mini':
        (tmp_path/name).mkdir()
        for file in 'config.json', 'results.parquet', 'removable.csv', 'index.html': shutil.copy(HERE/name/file, tmp_path/name)
    config = json.loads((tmp_path/'fmnist'/'config.json').read_text())
    (tmp_path/'fmnist'/'config.json').write_text(json.dumps({**config, 'dataset': EVIL}))
    return tmp_path

def test_overview(two):
    ran = CliRunner().invoke(app, ['overview', str(two)])
    assert ran.exit_code == 0, ran.output
    page, tags = (two/'index.html').read_text(), []
    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs): tags.append((tag, dict(attrs)))
    Tags().feed(page)
    assert EVIL not in page and 'onerror' not in {a for _, attrs in tags for a in attrs}
    images = [a for t, a in tags if t == 'img']
    assert images and all(a['src'].startswith('data:') and a['alt'] for a in images)
    assert {a['href'] for t, a in tags if t == 'a'} == {'fmnist/index.html', 'fmnist-mini/index.html'}
    assert sorted(p.name for p in two.iterdir()) == ['figures', 'fmnist', 'fmnist-mini', 'index.html']

def test_each_line_is_corrected_over_all_data_sets(two):
    table = compare_reports(report_folders(two))
    every = pd.concat([t[(t.regime == t.regime.iloc[0]) & t.gain.notna()] for t in map(read_summary, report_folders(two))])
    for line, (above, below, n) in verdicts(table).items():
        t = table[table.line == line]
        assert n == len(t) and 0 <= above + below <= n
        might_be = every[every.selection.map(line_of) == line] # those that were not chosen count, too
        assert ((t.p_holm >= t.p - 1e-12).all() and len(might_be) > len(t) * (line in ('original', 'deduplication'))
                and (t.p_holm.round(9).isin(holm(might_be.p).round(9)) | t.rivals.ne('') & t.p_holm.eq(t.p)).all())
        assert (t.groupby('dataset')[['selection', 'encoder']].nunique() == 1).all(axis=None) # one selection a data set, for all ratios

@pytest.mark.parametrize('names', [[], ['config.json'], ['config.json', 'results.parquet']], ids=['empty', 'half made', 'no page'])
def test_where_no_report_is_finished(tmp_path, names):
    (tmp_path/'fmnist').mkdir()
    for file in names: shutil.copy(HERE/'fmnist'/file, tmp_path/'fmnist')
    with pytest.raises(UserError, match='There are no reports in'): report_folders(tmp_path)
    ran = CliRunner().invoke(app, ['overview', str(tmp_path)])
    assert ran.exit_code == 2 and 'There are no reports in' in ran.output and 'Traceback' not in ran.output
