"""The site: it builds, its links lead somewhere, and a browser finds nothing wrong with any page."""
import functools, http.server, importlib, os, re, shutil, subprocess, sys, threading
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlsplit
import pytest
import semdedup
from semdedup import _modidx

pytest.importorskip('smalldocs', reason='smalldocs is not installed: pip install -e ".[dev]", with Python 3.11 or newer')
ROOT = Path(__file__).parents[1]
PHONE = 390                                                        # pixels

class Page(HTMLParser):
    "Where a page leads, what can be led to, and its pictures."
    def __init__(self, file):
        super().__init__()
        self.links, self.ids, self.pictures = [], {''}, []
        self.feed(file.read_text(encoding='utf-8')); self.close()
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[a] for a in ('href', 'src') if attrs.get(a)]
        self.ids |= {attrs[a] for a in ('id', 'name') if attrs.get(a)}
        if tag == 'img': self.pictures.append(attrs)

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site, in a folder of its own."
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run([sys.executable, ROOT/'tools'/'make_docs.py', '--pages', folder/'pages', '--out', folder/'site'],
                          cwd=ROOT, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != 'IN_TEST'})
    assert done.returncode == 0, done.stderr
    return folder/'site'

@pytest.fixture(scope='session')
def pages(site): return {p.relative_to(site).as_posix(): Page(p) for p in sorted(site.rglob('*.html'))}

@pytest.fixture
def make_docs(monkeypatch):
    "tools/make_docs.py as a module."
    monkeypatch.syspath_prepend(ROOT/'tools')
    return importlib.import_module('make_docs')

@pytest.mark.parametrize('text, wrong', [('[a](b.md)', False), ('[a](c.md)', True), ('![a](c.png)', True), ('[a](b.md)\n\n$x^2$', False)])
def test_a_broken_link_is_an_error(make_docs, tmp_path, capsys, text, wrong):
    for name, content in {'_quarto.yml': 'project: {type: website}', 'index.md': f'# A\n\n{text}', 'b.md': '# B'}.items(): (tmp_path/name).write_text(content)
    if not wrong: assert make_docs.render(tmp_path, tmp_path/'_site') == 2
    else:
        with pytest.raises(SystemExit): make_docs.render(tmp_path, tmp_path/'_site')
        assert 'index.md: broken link c.' in capsys.readouterr().err
    page = (tmp_path/'_site'/'index.html').read_text()
    assert ('<msup>' in page) == ('$' in text) and 'katex' not in page

@pytest.mark.parametrize('folder, link, leads_to', [
    ('guide', '../02_clustering.ipynb#gmm', '/02_clustering.ipynb#gmm'),
    ('.', '../reports/fmnist-mini/index.html', '/reports/fmnist-mini/index.html'),
    ('.', '../CONTRIBUTING.md', '/contributing.md'), ('.', 'https://semdedup.github.io/semdedup/own.html#dedup', '/own.html#dedup'),
    ('.', '../benchmarks/dedup.py', 'https://github.com/semdedup/semdedup/blob/main/benchmarks/dedup.py'),
    ('.', 'experiments/report.ipynb', 'https://github.com/semdedup/semdedup/blob/main/nbs/experiments/report.ipynb'),
    ('.', '#here', '#here'), ('.', 'https://arxiv.org', 'https://arxiv.org'), ('.', 'none.ipynb', None)])
def test_links_stay_inside(make_docs, folder, link, leads_to):
    cfg = make_docs.get_config(path=ROOT)
    if leads_to: assert make_docs.inside(link, folder, cfg) == leads_to
    else:
        with pytest.raises(SystemExit, match='broken link none.ipynb'): make_docs.inside(link, folder, cfg)

def test_no_folder_of_others_is_emptied(make_docs, tmp_path):
    (tmp_path/'mine.txt').write_text('mine')
    with pytest.raises(SystemExit, match='holds something else'): make_docs.make_pages(tmp_path)
    assert (tmp_path/'mine.txt').exists()

def test_all_is_there(pages):
    "A page for each notebook and each report, and each page in the list at the side."
    guides = 'tutorial', 'own_folder', 'hugging_face', 'million', 'machines', 'offline', 'devices', 'method', 'random'
    for page in ('index.html', *[f'guide/{g}.html' for g in guides], *[f'{m}.html' for m in ('init', *semdedup.MODULES)],
                 'benchmarks.html', 'changelog.html', 'reports/index.html'):
        assert page in pages
    assert {f'reports/{p.parent.name}/index.html' for p in ROOT.glob('reports/*/index.html')} <= pages.keys()
    listed = {link.partition('#')[0] for link in pages['index.html'].links} | {'index.html'}
    reports = {p for p in pages if re.fullmatch('reports/(.+/index|overview).html', p)}
    assert reports <= {f'reports/{link}' for link in pages['reports/index.html'].links}
    assert [p for p in pages if p not in listed | reports] == []

def test_every_link_leads_somewhere(site, pages):
    "Files, and places in pages."
    broken = []
    for name, page in pages.items():
        for link in page.links:
            if re.match('[a-z]+:|//', link): continue
            to = urlsplit(urljoin(name, link))
            path = unquote(to.path).strip('/') or name
            path = f'{path}/index.html' if (site/path).is_dir() else path
            if not (site/path).is_file() or (path in pages and unquote(to.fragment) not in pages[path].ids): broken.append((name, link))
    assert broken == []

@pytest.mark.parametrize('module', semdedup.MODULES)
def test_every_name_is_documented(pages, module):
    "Each function and class of a chapter has a place on its page, and so has each public name."
    addresses = {name: address for name, (address, _) in _modidx.d['syms'][f'semdedup.{module}'].items() if name.count('.') == 2}
    assert addresses and {f'semdedup.{module}.{n}' for n, m in semdedup.NAMES.items() if m == module} <= addresses.keys()
    missing = [name for name, address in addresses.items() if (at := address.split('#'))[1] not in pages[at[0]].ids]
    assert missing == []

def test_methods_stand_with_their_class(site):
    text = re.sub('<[^>]*>', '', (site/'pruning.html').read_text(encoding='utf-8'))
    for line in '.rethreshold(eps): The same for another eps', '.subset(dataset): The kept items of a data set.', '.from_parquet(path): Read a selection':
        assert line in text
    for line in '.keep: Positions of the items that stay', '.removed: The rows of the table that go.': assert line in text
    own = re.sub('<[^>]*>', '', (site/'own.html').read_text(encoding='utf-8'))
    # the second line is of a base in another chapter
    for line in '.clean: Rows of the test images without a match', '.subset(dataset): The kept items of a data set.', '.write_folder(to, how)':
        assert line in own

def test_signatures_lead_to_their_lines(site):
    lines = (ROOT/'semdedup'/'pruning.py').read_text(encoding='utf-8').splitlines()
    sources = dict(re.findall(r'/semdedup/pruning.py#L(\w+)"[^>]*>source</a>.*?<h3[^>]*id="([\w-]+)"',
                              (site/'pruning.html').read_text(encoding='utf-8'), flags=re.DOTALL))
    assert len(sources) > 20 and 'None' not in sources
    # decorators stand above a name
    wrong = [name for line, name in sources.items()
             if not any(f" {re.sub('-[0-9]+$', '', name)}" in text.lower() for text in lines[int(line) - 1:int(line) + 3])]
    assert wrong == []

def test_each_command_is_on_the_page_of_commands(site):
    page = (site/'command.html').read_text(encoding='utf-8')
    for name in 'run', 'sweep', 'report', 'overview', 'dedup', 'leaks', 'prune', 'embeddings': assert f'semdedup {name}' in page
    for flag in '--minutes', '--resume', '--holdout', '--symlink', '--null', '--label-column': assert flag in page

def test_guides_can_be_typed_along():
    "Whatever the code of a page uses, the page shows where it comes from: cells that are not shown define nothing that others need."
    import ast, builtins, json
    lacking = {}
    for page in sorted((ROOT/'nbs'/'guide').glob('*.ipynb')):
        if page.stem == 'random': continue                         # its code is not shown
        shown, used = set(dir(builtins)), set()
        for cell in json.loads(page.read_text(encoding='utf-8'))['cells']:
            source = ''.join(cell['source'])
            if cell['cell_type'] != 'code' or '#| hide' in source or '#| echo: false' in source: continue
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Name): (used if isinstance(node.ctx, ast.Load) else shown).add(node.id)
                elif isinstance(node, ast.alias): shown.add((node.asname or node.name).partition('.')[0])
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)): shown.add(node.name)
                elif isinstance(node, ast.arg): shown.add(node.arg)
                elif isinstance(node, ast.ExceptHandler): shown.add(node.name)
        if used - shown: lacking[page.stem] = sorted(used - shown)
    assert lacking == {}

def test_every_picture_is_told_in_words(pages):
    assert sum(len(p.pictures) for p in pages.values()) > 30
    assert {name: n for name, p in pages.items() if (n := sum(not i.get('alt', '').strip() for i in p.pictures))} == {}

# In a browser

@pytest.fixture(scope='session')
def browser():
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install -e ".[dev]"')
    program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
    # a CI without Chromium would be green and have looked at nothing
    if program is None: (pytest.fail if os.environ.get('CI') else pytest.skip)('there is no Chromium here')
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program)
        yield browser
        browser.close()

@pytest.fixture(scope='session')
def address(site):
    "The site on a server of this machine."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

@pytest.fixture(scope='session')
def visits(browser, address, pages):
    "What happens on every page: errors, requests to other hosts, and its width on a phone."
    found = {}
    for name in pages:
        tab, v = browser.new_page(viewport={'width': PHONE, 'height': 800}), SimpleNamespace(errors=[], foreign=[], width=0)
        tab.on('console', lambda m: v.errors.append(m.text) if m.type in ('error', 'warning') else None)
        tab.on('pageerror', lambda e: v.errors.append(str(e)))
        tab.on('request', lambda r: v.foreign.append(r.url) if not r.url.startswith((address, 'data:', 'blob:')) else None)
        tab.on('response', lambda r: v.errors.append(f'{r.status} {r.url}') if r.status >= 400 and not r.url.endswith('favicon.ico') else None)
        tab.goto(address + name, wait_until='load')
        v.width = tab.evaluate('document.documentElement.scrollWidth')
        tab.close()
        found[name] = v
    return found

def test_no_page_complains(visits): assert {n: v.errors for n, v in visits.items() if v.errors} == {}

def test_no_page_asks_another_host(visits): assert {n: v.foreign for n, v in visits.items() if v.foreign} == {}

def test_no_page_scrolls_sideways_on_a_phone(visits): assert {n: v.width for n, v in visits.items() if v.width > PHONE} == {}

def test_search_finds_deduplicate(browser, address):
    tab = browser.new_page(viewport={'width': 1200, 'height': 800})
    tab.goto(address + 'index.html')
    tab.locator('.smalldocs-search input:visible').first.fill('deduplicate')
    tab.locator('.search-result:visible').first.wait_for()
    assert any('pruning.html' in link for link in tab.locator('.search-result').evaluate_all('all => all.map(a => a.href)'))
    tab.close()
