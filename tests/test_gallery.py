"""The page for own images: one file that loads nothing and runs one script, says what is true, and can be used without a mouse or eyes."""
import base64, hashlib, json, re
from html.parser import HTMLParser
import numpy as np, pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from semdedup import UserError, dedup, gallery, leaks
from semdedup.own import prune_photos

NAME = '<img src=x onerror=alert(1)>.png'
ODD = [NAME, '"quoted\' & co.png', '{{ 7 * 7 }}.png', '猫 кошка.png', '</script><script>alert(2)</script>.png', 'javascript:alert(3).png']

class Page(HTMLParser):
    "What there is in a page: tags with their attributes, and text outside of scripts and styles."
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.inside = [], [], ''
        self.feed(text); self.close()
        self.text = ' '.join(self.words)
    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ('script', 'style'): self.inside = tag
    def handle_endtag(self, tag):
        if tag == self.inside: self.inside = ''
    def handle_data(self, data):
        if not self.inside: self.words.append(data)
    def all(self, tag): return [attrs for t, attrs in self.tags if t == tag]

@pytest.fixture(scope='session')
def tiles():
    return [Image.fromarray(np.ascontiguousarray(im[y:y + 200, x:x + 200])) for im in load_sample_images().images for y in (10, 215) for x in (0, 210, 420)]

@pytest.fixture(scope='session')
def photos(tmp_path_factory, tiles):
    "Train and test folders with odd names, copies with another label, copies across the split, and a broken file."
    folder = tmp_path_factory.mktemp('page')/'my <b>photos</b>'
    for n, im in enumerate(tiles[:6]):
        for c in 'train/a', 'train/<i>b', 'test/a', 'test/<i>b': (folder/c).mkdir(parents=True, exist_ok=True)
        odd = ODD[n].replace('/', '∕')
        im.save(folder/'train'/'a'/odd); im.resize((90, 90)).save(folder/'train'/('a' if n % 2 else '<i>b')/f'{n}-small.jpg')
        if n < 2: ImageOps.mirror(im).save(folder/'test'/'a'/f'{n}-mirrored.png')
    for n in (6, 7, 8): tiles[n].save(folder/'test'/'<i>b'/f'{n}.png'); tiles[n + 3].save(folder/'train'/'<i>b'/f'{n}.png')
    (folder/'train'/'a'/'broken & <u>.png').write_bytes(b'no image')
    return folder

@pytest.fixture(scope='session')
def found(photos): return dedup(photos, eps=.5, n_clusters=3)
@pytest.fixture(scope='session')
def source(found, tmp_path_factory):
    return gallery.write_gallery(found, tmp_path_factory.mktemp('out')/'index.html', "semdedup dedup 'my <b>photos</b>'").read_text(encoding='utf-8')
@pytest.fixture(scope='session')
def leak_source(photos, tmp_path_factory):
    return gallery.write_leaks_page(leaks(photos/'train', photos/'test', eps=.5), tmp_path_factory.mktemp('out')/'index.html').read_text(encoding='utf-8')
@pytest.fixture(scope='session', params=['gallery', 'leaks'])
def any_source(request, source, leak_source): return {'gallery': source, 'leaks': leak_source}[request.param]
@pytest.fixture(scope='session')
def any_page(any_source): return Page(any_source)
@pytest.fixture(scope='session')
def page(source): return Page(source)

# Safe

def test_one_script_runs_and_nothing_else_can(any_page, any_source):
    [script] = re.findall(r'<script>(.*?)</script>', any_source, re.S)
    [policy] = [m['content'] for m in any_page.all('meta') if m.get('http-equiv') == 'Content-Security-Policy']
    assert (f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
            and policy.startswith("default-src 'none'") and 'http' not in policy)
    assert len(any_page.all('script')) == 1 and {t for t, _ in any_page.tags} & {'iframe', 'object', 'embed', 'form', 'base', 'link'} == set()
    assert [(t, a) for t, attrs in any_page.tags for a in attrs if a.startswith('on')] == []

def test_nothing_is_loaded(any_page, any_source):
    assert any_page.all('img') and all(a['src'].startswith('data:image/') for a in any_page.all('img'))
    assert [v[:60] for _, attrs in any_page.tags for k in ('href', 'src', 'action', 'data')
            if (v := attrs.get(k)) and not v.startswith(('data:image/', '#'))] == []
    assert not re.search(r'@import|url\(|fetch\(|XMLHttp', any_source)

def test_names_are_shown_as_they_are(page, source):
    for name in ODD: assert name.replace('/', '∕') in page.text, name
    assert 'my <b>photos</b>' in page.text and '<i>b' in page.text and 'broken & <u>.png' in page.text
    assert '<img src=x' not in source and '<i>' not in source and 'alert(2)</script>' not in source

# True

def test_the_answer(found, page):
    copies = (found.table['duplicate_of'] >= 0).sum()
    assert f'{copies} of {len(found)} images' in page.text and '1 image cannot be read' in page.text and 'Nothing was deleted' in page.text

def test_each_group_shows_what_goes_for_what_stays(found):
    groups = gallery.groups_of(found.table)
    assert sorted(int(m) for _, members in groups for m in members) == sorted(found.table.index[found.table['duplicate_of'] >= 0])
    assert all(found.table['kept'][keep] and (found.table['duplicate_of'][members] == keep).all() for keep, members in groups)
    least = [found.table['duplicate_similarity'][members].min() for _, members in groups]
    assert least == sorted(least, reverse=True)

def test_the_sections(page):
    ids = [a['id'] for a in page.all('section')]
    assert {'threshold', 'groups', 'above', 'labels', 'leaks', 'clusters', 'problems'} <= set(ids) and len(ids) == len(set(ids))

def test_other_labels_and_splits(found, page):
    t = found.table[found.table['duplicate_of'] >= 0]
    odd = (found.table['label'][t['duplicate_of']].to_numpy() != t['label'].to_numpy()).sum()
    assert odd >= 2 and page.text.count('other label') >= odd
    across = [(a.split('/')[0], b.split('/')[0]) for a, b in zip(t['id'], found.table['id'][t['duplicate_of']])]
    assert sum(a != b for a, b in across) >= 2 and 'The same picture for training and for testing' in page.text

def test_the_slider_counts_what_other_thresholds_give(found, page):
    [slider] = [a for a in page.all('input') if a.get('type') == 'range']
    steps = json.loads(slider['data-steps'])
    assert len(steps) == int(slider['max']) + 1 > 30 and steps[int(slider['value'])][0] == .5
    for eps, gone, _ in steps[::12]: assert gone == (found.rethreshold(eps).table['duplicate_of'] >= 0).sum()

def test_leaks_are_ranked(leak_source):
    page = Page(leak_source)
    said = [float(s) for s in re.findall(r'test · (\d\.\d+) · ', page.text)]
    assert said and 'a near-copy among' in page.text and [a['id'] for a in page.all('section')][:2] == ['threshold', 'leaks']
    ranked = said[:len(re.findall('leak: ', ' '.join(a['alt'] for a in page.all('img')))) // 2]
    assert ranked == sorted(ranked, reverse=True)

def test_no_copies_no_labels(tmp_path, tiles):
    "A page of nothing to show is a page."
    (tmp_path/'x').mkdir(); tiles[0].save(tmp_path/'x'/'a.png'); tiles[6].save(tmp_path/'x'/'b.png')
    page = Page(gallery.write_gallery(dedup(tmp_path/'x'), tmp_path/'index.html').read_text())
    assert 'None of the 2 images is a copy' in page.text
    page = Page(gallery.write_leaks_page(leaks(tmp_path/'x', tmp_path/'x'), tmp_path/'leaks.html').read_text())
    assert '2 of 2 test images' in page.text

def test_one_image(tmp_path, tiles):
    (tmp_path/'x').mkdir(); tiles[0].save(tmp_path/'x'/'a.png')
    assert 'None of the 1 images' in Page(gallery.write_gallery(dedup(tmp_path/'x'), tmp_path/'index.html').read_text()).text

def test_large_sets_have_small_pages(found, tmp_path, monkeypatch):
    "At most so many pictures, whatever there is; and it is said."
    for k in 'groups', 'doubtful', 'labels', 'clusters', 'leaks': monkeypatch.setitem(gallery.SHOWN, k, 1)
    page = Page(gallery.write_gallery(found, tmp_path/'index.html').read_text())
    assert re.search(r'1 of \d+ groups are shown; the manifest has all', page.text) and len(page.all('img')) < 40

def test_thresholds_that_were_not_compared_are_no_steps(found, monkeypatch):
    "As where there were more pairs than memory holds."
    decide, steps = found.evidence.decide, gallery.steps_of(found)
    def only(threshold):
        if threshold < 1 - found.config['eps'] - 1e-9: raise UserError('There are more pairs than memory holds')
        return decide(threshold)
    monkeypatch.setattr(found.evidence, 'decide', only)
    assert gallery.steps_of(found) == [s for s in steps if s[0] <= .5] and steps[-1][0] > .5

def test_what_compared_nothing_has_no_page(photos, tmp_path):
    found = prune_photos(photos/'train', .5, encoder='pixels', n_clusters=2, cache=False)
    with pytest.raises(UserError, match='make it of what dedup returns'): gallery.write_gallery(found, tmp_path/'index.html')
    assert not list(tmp_path.iterdir())

# For all hands and eyes

def test_every_picture_is_told_in_words(any_page):
    assert all(a.get('alt', '').strip() for a in any_page.all('img')) and any_page.all('html') == [{'lang': 'en'}] and len(any_page.all('h1')) == 1
    assert all(a.get('aria-label') for a in any_page.all('svg'))

def test_sections_have_names_and_links_lead_somewhere(any_page):
    ids = {a['id'] for _, a in any_page.tags if 'id' in a}
    assert all(a['aria-labelledby'] in ids for a in any_page.all('section')) and all(a['href'][1:] in ids for a in any_page.all('a'))
    assert any(a.get('class') == 'skip' for a in any_page.all('a'))

def test_the_slider_is_labelled_and_speaks(any_page):
    [slider] = [a for a in any_page.all('input') if a.get('type') == 'range']
    assert (slider['id'] in [a.get('for') for a in any_page.all('label')]
            and [a for a in any_page.all('output') if a.get('aria-live') == 'polite' and a['id'] == slider['aria-describedby']])
    assert len(any_page.all('table')) >= 1, 'the numbers are there without the script'

def test_what_scrolls_can_be_reached(any_page):
    assert all(a.get('tabindex') == '0' and a.get('aria-label') for _, a in any_page.tags if a.get('class') == 'scroll')
