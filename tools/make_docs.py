#!/usr/bin/env python3
"""Make the site of the documentation from the notebooks, offline: `tools/make_docs.py [--pages _proc] [--out _docs]`

nbdev's processors turn notebooks into pages with signatures; smalldocs renders the pages as `nbs/_quarto.yml` says. What is
added: the reports and Markdown files of the repository, links that stay inside the site, and formulas as MathML, so that no
page asks another host for anything. A broken link, or an option that smalldocs does not know, is an error. The folder of
pages holds what Quarto needs too: `quarto render _proc`.
"""
import argparse, ast, html, inspect, json, os, re, shutil, sys
from functools import cached_property
from importlib import import_module
from itertools import groupby
from pathlib import Path, PurePosixPath
from posixpath import join, normpath
import yaml
from execnb.nbio import read_nb, write_nb
from latex2mathml.converter import convert
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, nbglob
from nbdev.process import Processor
from nbdev.processors import FilterDefaults, add_links, add_show_docs, exec_show_docs
from make_readme import ROOT, relink
try:
    from smalldocs.config import load
    from smalldocs.site import Site
except ImportError: sys.exit('smalldocs is not installed. It needs Python 3.11 or newer: make docs PYTHON=python3.11')

LEFT_OUT = 'experiments'                                           # in the notebooks they have toy sizes; what they found is in reports/
PAGES = {'CHANGELOG.md': 'changelog.md', 'CONTRIBUTING.md': 'contributing.md'} # file of the repository → page of the site

def inside(target, folder, cfg):
    "Where a link of a page in `folder` of nbs/ leads in the site; what is in the repository but not in the site, is on GitHub."
    site = f'{cfg.doc_host}{cfg.doc_baseurl}/'
    if target.startswith(site): return '/' + target.removeprefix(site)
    if re.match('[a-z][a-z0-9+.-]*:|[#/]', target, flags=re.IGNORECASE): return target
    path, mark, anchor = target.partition('#')
    path = normpath(join('nbs', folder, path))
    if not (ROOT/path).exists(): sys.exit(f'nbs/{folder}: broken link {target}')
    if (path.startswith(('nbs/', 'reports/')) and not path.startswith(f'nbs/{LEFT_OUT}/')) or path in PAGES:
        return '/' + PAGES.get(path, path.removeprefix('nbs/')) + mark + anchor
    return f'{cfg.git_url}/blob/{cfg.branch}/{path}{mark}{anchor}'

def public_first(cell):
    "Names in backticks lead to their chapter, not to a command of the same name; a method leads to its class."
    def linked(text): return re.sub(r'(\.html#\w+)\.\w+(?=\))', r'\1', NbdevLookup(skip_mods=('semdedup.cli',)).linkify(text))
    if cell.cell_type == 'markdown': cell.source = linked(cell.source)
    for o in cell.get('outputs', []):
        if 'text/markdown' in o.get('data', {}): o.data['text/markdown'] = linked(''.join(o.data['text/markdown']))

class in_order(Processor):
    "Signatures of one cell in the order in which it defines them; nbdev turns it round."
    def begin(self):
        cells, start = self.nb.cells, 0
        for shown, run in groupby([*cells], key=lambda cell: bool(getattr(cell, 'has_sd', False))):
            run = [*run]
            if shown: cells[start:start + len(run)] = run[::-1]
            start += len(run)

class show_signatures(exec_show_docs):
    "Run the cells that show signatures, and no others: the names come from the package, which the notebooks made."
    def begin(self):
        super().begin()
        module = re.search(r'^#\| *default_exp +(\S+)', '\n'.join(c.source for c in self.nb.cells if c.cell_type == 'code'), flags=re.MULTILINE)
        if not module: return
        module = import_module(f'semdedup.{module[1]}'.removesuffix('.__init__'))
        names = vars(module)
        for node in ast.parse(Path(module.__file__).read_text(encoding='utf-8')).body: # signatures are shown with what is imported for types only
            if isinstance(node, ast.If) and getattr(node.test, 'id', '') == 'TYPE_CHECKING':
                exec(compile(ast.Module(node.body, []), module.__file__, 'exec'), names)
        self.k.user_ns |= names

    def __call__(self, cell):
        shown = re.search(r'show_doc\((\w+)', cell.source or '')
        if cell.cell_type != 'code' or not shown: return
        self.k.cell(cell)
        if self.k.exc: raise self.k.exc
        thing = self.k.user_ns[shown[1]]
        # "Call self" is what Python says of a function that says nothing of itself; nbdev looks for lines under another name
        for o in cell.outputs:
            if 'text/markdown' in o.get('data', {}):
                o.data['text/markdown'] = (''.join(o.data['text/markdown']).replace('*Call self as a function.*', '').replace('#LNone', f'#L{line_of(thing)}')
                                           + members(thing))

def line_of(thing):
    "Where in its file a function or class begins."
    return inspect.getsourcelines(inspect.unwrap(thing))[1]

def members(shown):
    "The public methods and properties of a class that say what they are, a line each, those of its bases in the package too; nothing for a function."
    if not inspect.isclass(shown): return ''
    there = {name: value for base in reversed(shown.__mro__) if base.__module__.startswith('semdedup.')
             for name, value in vars(base).items() if not name.startswith('_')}
    lines = []
    for name, value in there.items():
        # the function of a class method, a property, a cached property
        f = getattr(value, '__func__', None) or getattr(value, 'fget', None) or getattr(value, 'func', None) or value
        if not inspect.isfunction(f) or not (said := inspect.getdoc(f)): continue
        takes = ', '.join([*inspect.signature(f).parameters][1:] if not isinstance(value, staticmethod) else inspect.signature(f).parameters)
        lines.append(f'- `.{name}{"" if isinstance(value, (property, cached_property)) else f"({takes})"}`: {said.splitlines()[0]}')
    return '\n\n' + '\n'.join(lines) + '\n' if lines else ''

class Pages(FilterDefaults):
    "nbdev's processors, with these instead of some."
    def base_procs(self):
        ours = {add_show_docs: [add_show_docs, in_order], add_links: [public_first], exec_show_docs: [show_signatures]}
        return [p for theirs in super().base_procs() for p in ours.get(theirs, [theirs])]

def process(notebook, page, folder, cfg):
    "From a notebook to a page: signatures instead of exported cells, links inside the site."
    nb = read_nb(notebook)
    Pages()(nb)
    move = lambda target: inside(target, folder, cfg)
    for cell in nb.cells:
        if cell.cell_type == 'markdown': cell.source = relink(cell.source, move)
        for o in cell.get('outputs', []):
            if 'text/markdown' in o.get('data', {}): o.data['text/markdown'] = relink(''.join(o.data['text/markdown']), move)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, page)

def copy_reports(to):
    """Copy the pages of reports/ with their figures, and list them on a page: what each found. The
    page of all of them is called overview.html, since index.html is the list."""
    from semdedup import answers
    text = ['---', 'title: Reports', 'description: What removing costs, measured; each page with its figures and the command that repeats it', '---', '']
    to.mkdir(parents=True)
    if (ROOT/'reports'/'index.html').exists():
        shutil.copy(ROOT/'reports'/'index.html', to/'overview.html')
        text += ['[All of them on one page](overview.html): what beats chance, and where.', '']
    for page in sorted(ROOT.glob('reports/*/index.html')):
        name = page.parent.name
        shutil.copytree(page.parent, to/name, ignore=lambda folder, names: [n for n in names if not n.endswith(('.html', '.svg', '.png', 'figures'))])
        lines = [f'## {name}']
        if page.with_name('summary.csv').exists():
            summary, about = answers.read_summary(page.parent), json.loads((page.parent/'figures'/'e2_gain.json').read_text(encoding='utf-8'))
            lines += [answers.answer(summary), *answers.recommend(summary),
                      f'![{about["caption"]}]({name}/figures/{about["file"]}){{fig-alt="{about["alt"]}"}}']
        for line in [*lines, f'[The whole page]({name}/index.html)']: text += [line, '']
    (to/'index.md').write_text('\n'.join(text), encoding='utf-8')

def copy_markdown(name, page, cfg):
    "A Markdown file of the repository as a page: its heading as the title."
    title, _, text = (ROOT/name).read_text(encoding='utf-8').removeprefix('# ').partition('\n')
    page.write_text(f'---\ntitle: {title}\n---\n{relink(text, lambda target: inside(target, "..", cfg))}', encoding='utf-8')

def copy_help(page):
    "What `--help` says of each command, as a page: Typer writes it, examples become blocks that can be copied."
    import typer.main, typer.cli
    from semdedup.cli import app
    command = typer.main.get_command(app)
    text = typer.cli.get_docs_for_click(obj=command, ctx=typer.Context(command, info_name='semdedup'), name='semdedup').partition('\n')[2]
    text = re.sub(r'(?m)^Examples:\n\n((?:- .*\n)+)', lambda m: '**Examples**:\n\n```sh\n' + re.sub('(?m)^- ', '', m[1]) + '```\n', text)
    # flags are code: elsewhere a dash would be made of two hyphens
    text = re.sub(r'(?s)(```.*?```|`[^`]*`)|(--\w[\w-]*)', lambda m: m[1] or f'`{m[2]}`', text)
    page.write_text(f'---\ntitle: The command line\ndescription: What each command says of itself, on one page\n---\n{text}', encoding='utf-8')

def make_pages(to):
    "Everything that the site is rendered from, in the folder `to`."
    cfg = get_config(path=ROOT)
    if to.exists() and any(to.iterdir()) and not (to/'nbdev.yml').exists(): sys.exit(f'{to} holds something else. Choose another folder.')
    shutil.rmtree(to, ignore_errors=True)
    for notebook in nbglob(cfg.nbs_path, as_path=True):
        path = notebook.relative_to(cfg.nbs_path)
        if path.parts[0] != LEFT_OUT: process(notebook, to/path, path.parent.as_posix(), cfg)
    for name, page in PAGES.items(): copy_markdown(name, to/page, cfg)
    copy_help(to/'command.md')
    copy_reports(to/'reports')
    site = {'title': cfg.title, 'description': cfg.description, 'site-url': cfg.doc_host + cfg.doc_baseurl, 'repo-url': cfg.git_url, 'repo-branch': cfg.branch}
    (to/'nbdev.yml').write_text(yaml.safe_dump({'website': site}), encoding='utf-8')
    for name in '_quarto.yml', 'styles.css', 'favicon.svg': shutil.copy(cfg.nbs_path/name, to)

class Docs(Site):
    "smalldocs' site, with the names that nbdev gives its pages, and formulas that need no script."
    def read(self, source):
        page = super().read(source)
        page.out = source.with_name(page.front.get('output-file', source.with_suffix('.html').name))
        return page

    def warn(self, message):
        if 'output-file is not read' not in message: super().warn(message)

    def find_page(self, target):
        return super().find_page(target) or next((p for p in self.pages.values() if p.out == PurePosixPath(target)), None)

    def render_page(self, page):
        super().render_page(page)
        if page.env.pop('math', False): page.html = re.sub(r'\\([(\[])(.+?)\\[)\]](?=</span>)', formula, page.html, flags=re.DOTALL)

def formula(match):
    "A formula of TeX as MathML, which browsers show."
    return convert(html.unescape(match[2]), display='inline' if match[1] == '(' else 'block')

def render(pages, out):
    "Render a folder of pages into the folder `out`, and return how many; whatever is wrong with them ends the program."
    site = Docs(load(pages), quiet=True)
    site.out = out
    n = site.build()
    for warning in site.warnings: print(warning, file=sys.stderr)
    if site.warnings: sys.exit(f'{len(site.warnings)} things are wrong with the site, see above.')
    return n

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--pages', type=Path, default=ROOT/'_proc', help='folder of what is rendered')
    parser.add_argument('--out', type=Path, default=ROOT/'_docs', help='folder of the site')
    args = parser.parse_args()
    make_pages(args.pages.resolve())
    print(f'{render(args.pages.resolve(), args.out.resolve())} pages in {os.path.relpath(args.out)}')

if __name__ == '__main__': main()
