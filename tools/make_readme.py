#!/usr/bin/env python3
"""Make README.md from the notebook that settings.ini calls `readme_nb`: `tools/make_readme.py [--check]`

nbdev_readme needs Quarto, which pip cannot install. This applies the same processors of nbdev, lets nbconvert write the
Markdown, and does by hand what Quarto would: cell options, links. `--check` writes nothing; its exit status is 1 if
README.md, or a figure in its folder, is not what the notebook gives.
"""
import argparse, re, shutil, sys
from pathlib import Path
from posixpath import join, normpath
import nbformat
from execnb.nbio import nb2str, read_nb
from nbconvert import MarkdownExporter
from nbdev.config import get_config
from nbdev.processors import FilterDefaults

ROOT = Path(__file__).resolve().parents[1]

def off(cell, option):
    "Does the cell say `#| option: false`?"
    return cell.directives_.get(f'{option}:', [''])[0].lower() == 'false'

def cell_options(cell):
    "Do what the cell's Quarto options say, and take them out; drop raw cells, which hold front matter."
    if cell.cell_type == 'raw' or off(cell, 'include'): del cell['source']; return
    if cell.cell_type != 'code': return
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.MULTILINE).strip()
    if off(cell, 'output'): cell.outputs = []
    cell.metadata['alt'] = ' '.join(cell.directives_.get('fig-alt:', []))
    # The two names by which nbconvert's template knows "without the code" and "the language of the code".
    cell.metadata['transient'] = {'remove_source': off(cell, 'echo')}
    cell.metadata['magics_language'] = cell.metadata.get('language', 'python')

def plain_tables(cell):
    "Leave pandas' style sheet out of its tables: GitHub does not show it."
    for o in cell.get('outputs', []):
        if 'text/html' in o.get('data', {}):
            o.data['text/html'] = [re.sub(r'<style.*?</style>\s*', '', ''.join(o.data['text/html']), flags=re.DOTALL)]

def relink(text, move):
    "`text` with what `move` makes of the target of each link, in Markdown or HTML."
    for pattern in r'(\]\()([^)\s]+)([)\s])', r'((?:src|href)=")([^"]+)(")': text = re.sub(pattern, lambda m: m[1] + move(m[2]) + m[3], text)
    return text

def root_links(folder):
    "A processor that makes links between files start at the root of the repository, not in the notebook's `folder`."
    def moved(target):
        if re.match(r'[a-z][a-z0-9+.-]*:|[#/]', target, flags=re.IGNORECASE): return target
        path, mark, anchor = target.partition('#')
        return normpath(join(folder, path)) + mark + anchor
    def links(cell):
        if cell.cell_type == 'markdown': cell.source = relink(cell.source, moved)
    return links

class Readme(FilterDefaults):
    "nbdev's processors, but for those that run code, that make front matter, or whose links depend on what else is installed."
    left_out = {'FrontmatterProc', 'add_show_docs', 'exec_show_docs', 'add_links'}
    def __init__(self, folder): self.folder = folder
    def base_procs(self):
        kept = [p for p in super().base_procs() if p.__name__ not in self.left_out]
        return [*kept, cell_options, plain_tables, root_links(self.folder)]

def render():
    "The text of the README, and its figures: bytes by path."
    cfg = get_config(path=ROOT)
    path = cfg.nbs_path/cfg.readme_nb
    if not path.exists(): sys.exit(f'There is no {path.relative_to(ROOT)} to make README.md from.')
    nb, folder = read_nb(path), f'{path.stem}_files'
    Readme(path.parent.relative_to(ROOT).as_posix())(nb)
    node = nbformat.reads(nb2str(nb), as_version=4)
    alt = iter([c.metadata['alt'] for c in node.cells if c.cell_type == 'code' for o in c.outputs if 'image/png' in o.get('data', {})])
    text, resources = MarkdownExporter().from_notebook_node(node, {'output_files_dir': folder, 'unique_key': path.stem})
    if re.search('^:::', text, flags=re.MULTILINE): sys.exit(f"{path.name}: blocks with ':::' are Quarto's; in a README they would show as they are.")
    text = re.sub(r'!\[png\]\(', lambda _: f'![{next(alt)}](', text)
    figures = {ROOT/name: data for name, data in resources['outputs'].items()}
    return re.sub(r'\n(?:[ \t]*\n)+', '\n\n', text).strip() + '\n', figures, ROOT/folder    # nbconvert is generous with blank lines

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing; fail if README.md is not what the notebook gives')
    check = parser.parse_args().check
    text, figures, folder = render()
    readme = ROOT/'README.md'
    old = {p: p.read_bytes() for p in folder.glob('*')}
    if readme.exists() and readme.read_text(encoding='utf-8') == text and old == figures: return
    if check: sys.exit('README.md is not what its notebook gives: run tools/make_readme.py')
    if old: shutil.rmtree(folder)
    for p, data in figures.items(): p.parent.mkdir(exist_ok=True); p.write_bytes(data)
    readme.write_text(text, encoding='utf-8')

if __name__ == '__main__': main()
