"""Own photographs with known groups: what goes, what stays, what is written, and what is refused."""
import os, shutil, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images
from semdedup import Selection, UserError, dedup, leaks, open_photos, own, thresholds

# Real photographs come with scikit-learn: two of them, cut into tiles that do not overlap.

@pytest.fixture(scope='session')
def tiles():
    "Twelve different pictures of 200 × 200 pixels."
    return [Image.fromarray(np.ascontiguousarray(im[y:y + 200, x:x + 200])) for im in load_sample_images().images for y in (10, 215) for x in (0, 210, 420)]

CHANGES = {'small': lambda im: im.resize((120, 120)), 'mirrored': ImageOps.mirror, 'grey': lambda im: im.convert('L'),
           'bright': lambda im: ImageEnhance.Brightness(im).enhance(1.2), 'cropped': lambda im: im.crop((12, 8, 190, 192))}

def make_album(folder, tiles):
    """Six pictures in two classes, each in several versions; a picture that is there once; the
    same file twice; the same pixels twice; three files that are no images."""
    for n, im in enumerate(tiles[:6]):
        to = folder/'cats dogs'.split()[n % 2]; to.mkdir(parents=True, exist_ok=True)
        im.save(to/f'{n}.png'); im.save(to/f'{n}-again.jpg', quality=60)
        for name, change in CHANGES.items(): change(im).save(to/f'{n}-{name}.png')
        shutil.copy(to/f'{n}.png', to/f'{n}-twice.png'); im.save(to/f'{n}-lossless.webp', lossless=True)
    tiles[6].save(folder/'cats'/'alone.png')
    sideways = tiles[7].transpose(Image.Transpose.ROTATE_90); exif = Image.Exif(); exif[0x0112] = 6
    tiles[7].save(folder/'dogs'/'7.png'); sideways.save(folder/'dogs'/'7-sideways.jpg', exif=exif, quality=90)
    (folder/'cats'/'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 and no more'); (folder/'dogs'/'empty.png').write_bytes(b'')
    (folder/'dogs'/'cut.png').write_bytes((folder/'dogs'/'1.png').read_bytes()[:5000])
    return folder

@pytest.fixture(scope='session')
def album(tmp_path_factory, tiles): return make_album(tmp_path_factory.mktemp('album')/'photos', tiles)
@pytest.fixture(scope='session')
def found(album): return dedup(album, eps=.5)

def picture(name): return name.split('/')[-1].split('.')[0].split('-')[0]
def names(found, rows): return [found.table['id'][i].split('/')[-1] for i in rows]
def gone(found): return found.table[found.table['duplicate_of'] >= 0]
def files(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file() or p.is_symlink())

# What goes

def test_versions_of_a_picture_are_found(found):
    "Resized, re-encoded, mirrored, greyed, brighter, cropped, sideways: each goes for a version of the same picture, and every picture stays."
    assert all(picture(a) == picture(b) for a, b in zip(found.table['id'][gone(found)['index']], found.table['id'][gone(found)['duplicate_of']]))
    assert {picture(n) for n in names(found, found.keep)} == {'0', '1', '2', '3', '4', '5', '7', 'alone'}
    assert len(found.keep) <= 12, names(found, found.keep)

def test_every_image_that_goes_has_one_that_stays(found):
    assert found.table['kept'][gone(found)['duplicate_of']].all() and (gone(found)['duplicate_similarity'] >= .5).all()

def test_exact_copies_are_told_apart(found):
    exact = found.table.set_index('id')['exact']
    for n in range(6):
        same = sorted(exact[f'{"cats dogs".split()[n % 2]}/{n}{e}'] for e in ('.png', '-twice.png', '-lossless.webp'))
        assert same == ['', 'bytes', 'pixels'] or same == ['', 'pixels', 'pixels'], same
    assert (exact[exact.index.str.contains('small|grey|again|alone')] == '').all()

def test_what_cannot_be_read_is_said(found):
    bad = found.table[found.table['problem'] != ''].set_index('id')
    assert sorted(bad.index) == ['cats/broken.jpg', 'dogs/cut.png', 'dogs/empty.png']
    assert (not bad['kept'].any() and (bad['cluster'] == -1).all() and (bad['duplicate_of'] == -1).all()
            and (bad['reason'] == 'cannot be read: ' + bad['problem']).all())

def test_the_manifest(found, tmp_path):
    table = pd.read_parquet(found.to_parquet(tmp_path/'manifest.parquet'))
    assert list(table) == ['index', 'id', 'cluster', 'similarity', 'rank', 'kept', 'reason', 'duplicate_of', 'duplicate_similarity', 'duplicate_id',
                           'label', 'width', 'height', 'bytes', 'colours', 'sharpness', 'exact', 'problem']
    back = Selection.from_parquet(tmp_path/'manifest.parquet')
    assert back.hash == found.hash and (back.keep == found.keep).all() and (back.table['label'] == found.table['label']).all()

@pytest.mark.parametrize('keep, stays', [('largest', lambda t: t['width'] * t['height']),
                                         ('sharpest', lambda t: (np.log(t['sharpness'] + 1) / np.log(1.25)).round()), ('first', lambda t: -t['index'])])
def test_who_stays(album, keep, stays):
    "No image goes for one that has less of what was asked for."
    f = dedup(album, eps=.5, keep=keep)
    value = stays(f.table).to_numpy()
    assert len(gone(f)) > 20 and (value[gone(f)['duplicate_of']] >= value[gone(f)['index']]).all()

@pytest.mark.parametrize('keep', ['hard', 'easy', 'random'])
def test_other_orders(album, keep):
    f = dedup(album, eps=.5, keep=keep)
    assert {picture(n) for n in names(f, f.keep)} == {'0', '1', '2', '3', '4', '5', '7', 'alone'} and f.config['keep'] == keep

def test_own_priorities(album):
    n = len(open_photos(album))
    f = dedup(album, eps=.5, keep=np.arange(n))
    assert (gone(f)['duplicate_of'] > gone(f)['index']).all() and len(gone(f)) > 20

@pytest.mark.parametrize('target, left', [(20, 20), (.5, 31), (1, 1), (8, 8)])
def test_targets(album, target, left):
    f = dedup(album, target=target)
    assert len(f) == 6 * 9 + 1 + 2 + 3 and len(f.keep) == (left if target != .5 else -(-len(f) // 2))

def test_another_threshold_is_a_fresh_run(album, found):
    for target in (.9, 8): assert found.resize(target).table.equals(dedup(album, target=target).table) # fewer than are no copies, too
    for eps in (.1, .9): assert found.rethreshold(eps).table.equals(dedup(album, eps=eps).table)

def test_the_rule_of_the_paper_removes_no_less(album, found):
    assert len(dedup(album, eps=.5, rule='semdedup').keep) <= len(found.keep)

def test_embeddings_of_things(album):
    "Another encoder compares embeddings, and none of the pictures."
    f = dedup(album, eps=.001, encoder='pixels')
    assert not f.config['verified'] and all(picture(a) == picture(b) for a, b in zip(f.table['id'][gone(f)['index']], f.table['id'][gone(f)['duplicate_of']]))

# A threshold from the data

def test_a_threshold_is_suggested_and_said(album):
    said = []
    f = dedup(album, say=said.append)
    assert f.suggestion is not None and f.config['eps'] == f.suggestion.eps and 'is suggested' in said[0] and f.config['suggested']
    assert {picture(n) for n in names(f, f.keep)} >= {'0', '1', '2', '3', '4', '5', '7', 'alone'}

def test_the_suggestion_does_not_depend_on_threads(monkeypatch):
    x = np.random.default_rng(0).standard_normal((600, 16)); x[300:400] = x[:100] + .01
    eps = []
    for n in '12': monkeypatch.setenv('SEMDEDUP_THREADS', n); eps.append(thresholds.suggest_eps(x).eps)
    assert eps[0] == eps[1] and 0 < eps[0] < .2

@pytest.mark.parametrize('centre, most, eps, why', [(-4, 1, .2, 'asks for a probability of four to one'),
                                                    (-1, 9, None, 'at most half a false find is expected in all')],
                         ids=['none is likely', 'some are'])
def test_where_no_heap_of_copies_stands_apart(centre, most, eps, why):
    "Probabilities of one kind only, on the scale of odds: if none of them is likely, the usual threshold; else one that chance hardly reaches."
    w = np.random.default_rng(0).gumbel(centre, 1, 400)
    found = thresholds.suggest_from(1 / (1 + np.exp(-w[w < most])), np.full(50, .001), odds=True)
    assert why in found.why and found.mixture.mean == np.inf and (found.eps == eps if eps else found.eps < .05 and found.found <= 2)

def test_copies_among_two_kinds_of_pictures():
    "Photographs are far from each other, screenshots nearer, copies near: one heap through all of it would explain any copy."
    rng = np.random.default_rng(1); kinds = np.r_[rng.gumbel(-11, 3, 30), rng.gumbel(-4, 1, 15)]
    odds = lambda w: 1 / (1 + np.exp(-w))
    found = thresholds.suggest_from(odds(np.r_[kinds, rng.uniform(5, 9, 12)]), np.full(50, 1e-8), odds=True)
    assert found.found >= 11
    near = thresholds.suggest_from(odds(np.r_[kinds, 1.6, rng.uniform(6, 9, 12)]), np.full(50, 1e-8), odds=True)
    assert near.found >= 11
    assert thresholds.suggest_from(odds(np.r_[kinds, kinds - .5]), np.full(50, 1e-8), odds=True).found <= 2

@pytest.mark.parametrize('seed', range(10))
def test_chance_is_not_taken_for_copies(seed):
    "One kind of picture whose nearest neighbours are often near: at most a false find or two."
    w = np.random.default_rng(seed).gumbel(0, 1, 500)
    assert thresholds.suggest_from(1 / (1 + np.exp(-w)), np.full(50, .001), odds=True).found <= 3

# Few images

@pytest.mark.parametrize('n, stay', [(1, 1), (2, 1), (5, 1)])
def test_all_the_same(tmp_path, tiles, n, stay):
    for i in range(n): tiles[0].save(tmp_path/f'{i}.png')
    f = dedup(tmp_path)
    assert len(f.keep) == stay and set(f.table['exact']) == ({'', 'bytes'} if n > 1 else {''})

def test_two_different_images(tmp_path, tiles):
    tiles[0].save(tmp_path/'a.png'); tiles[6].save(tmp_path/'b.png')
    assert len(dedup(tmp_path).keep) == 2

def test_images_of_nothing(tmp_path):
    "Black and white: two pictures, each twice, in two sizes."
    for name, level, side in (('a', 0, 50), ('b', 0, 80), ('c', 255, 50), ('d', 255, 80)):
        Image.new('RGB', (side, side), (level,) * 3).save(tmp_path/f'{name}.png')
    assert names(dedup(tmp_path, eps=.5), dedup(tmp_path, eps=.5).keep) == ['b.png', 'd.png']

def test_no_images(tmp_path):
    with pytest.raises(UserError, match='no images'): dedup(tmp_path)
    (tmp_path/'a.png').write_bytes(b'no'); (tmp_path/'b.jpg').write_bytes(b'')
    with pytest.raises(UserError, match='None of the 2 images'): dedup(tmp_path)

@pytest.mark.parametrize('asked, says', [
    (dict(eps=-1), 'eps is -1'), (dict(eps=.1, target=5), 'give one of them'), (dict(keep='larges'), "Did you mean 'largest'"),
    (dict(rule='covers'), "Did you mean 'cover'"), (dict(eps=1.5), 'too large'), (dict(target=0), 'target is 0'),
    (dict(target=10**6), 'target'), (dict(encoder='copy'), "Did you mean 'copies'"),
    (dict(seed=-1), 'seed is -1'), (dict(keep=[1, 2]), 'priorities'), (dict(n_clusters=500), 'n_clusters is 500'),
], ids=str)
def test_mistakes_are_answered(album, asked, says):
    with pytest.raises(UserError, match=says): dedup(album, **asked)

def test_embeddings_are_added_photographs_are_not(found):
    with pytest.raises(UserError, match='Put the new images into the folder and call dedup again'): found.add(np.ones((3, 3)))

def test_large_jpegs_are_compared_in_full_once(tmp_path, tiles, monkeypatch):
    "They were scanned at a reduced size: whether their pixels are the same to the last one is looked up then, and remembered."
    picture = tiles[0].resize((900, 700))
    picture.save(tmp_path/'0.jpg', quality=90); raw = (tmp_path/'0.jpg').read_bytes()
    (tmp_path/'1.jpg').write_bytes(raw[:2] + b'\xff\xfe\x00\x07hello' + raw[2:])   # a comment
    Image.open(tmp_path/'0.jpg').save(tmp_path/'2.png'); picture.save(tmp_path/'3.jpg', quality=91)
    assert dedup(tmp_path, eps=.5, keep='first').table['exact'].tolist() == ['', 'pixels', 'pixels', '']
    monkeypatch.setattr(own, 'same_pixels', None)
    assert dedup(tmp_path, eps=.5, keep='first').table['exact'].tolist() == ['', 'pixels', 'pixels', '']

# In a training script

def test_subsets(album, found):
    datasets = pytest.importorskip('torchvision.datasets')
    folder = datasets.ImageFolder(album)
    kept = {i for i, k in zip(found.table['id'], found.table['kept']) if k}
    part = found.subset(folder)
    assert {Path(folder.samples[i][0]).relative_to(album).as_posix() for i in part.indices} == kept and part[0][0].size
    assert sorted(found.sampler(folder)) == part.indices
    with pytest.raises(UserError, match='The data set has 3 items'): found.subset([1, 2, 3])

def test_a_hugging_face_data_set(found):
    datasets = pytest.importorskip('datasets')
    assert found.select(datasets.Dataset.from_dict({'n': list(range(len(found)))}))['n'] == found.keep.tolist()

# A folder of what stays

@pytest.mark.parametrize('how', own.HOW)
def test_a_folder_of_what_stays(found, tmp_path, how, album):
    to = found.write_folder(tmp_path/'new', how)
    assert files(to) == sorted(found.table['id'][found.keep])
    assert all((to/n).read_bytes() == (album/n).read_bytes() for n in files(to))
    assert {'copy': lambda a, b: not a.samefile(b), 'link': lambda a, b: a.samefile(b) and not a.is_symlink(),
            'symlink': lambda a, b: a.is_symlink()}[how](to/files(to)[0], album/files(to)[0])
    before = {n: (to/n).lstat().st_mtime_ns for n in files(to)}
    (to/files(to)[0]).unlink(); (to/'cats'/f'{own.TEMPORARY}x').write_bytes(b'half')        # as a killed run leaves it
    found.write_folder(to, how)
    assert (files(to) == sorted(found.table['id'][found.keep])
            and {n: (to/n).lstat().st_mtime_ns for n in files(to)[1:]} == {n: before[n] for n in files(to)[1:]})

@pytest.mark.parametrize('how', own.HOW)
def test_foreign_files_are_never_overwritten(found, tmp_path, how):
    name = found.table['id'][found.keep[3]]
    (tmp_path/'new'/name).parent.mkdir(parents=True); (tmp_path/'new'/name).write_bytes(b'mine')
    with pytest.raises(UserError, match='is there already, and is something else'): found.write_folder(tmp_path/'new', how)
    assert files(tmp_path/'new') == [name] and (tmp_path/'new'/name).read_bytes() == b'mine'
    (tmp_path/'new'/name).unlink(); (tmp_path/'new'/'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match="such as 'thesis.txt'"): found.write_folder(tmp_path/'new', how)

def test_not_among_the_images(found, album, tmp_path):
    for to in album, album/'new', album/'cats'/'new':
        with pytest.raises(UserError, match='lies inside of'): found.write_folder(to)
    (tmp_path/'file').write_text('')
    with pytest.raises(UserError, match='is a file'): found.write_folder(tmp_path/'file')
    with pytest.raises(UserError, match="Unknown way 'hardlink'"): found.write_folder(tmp_path/'new', 'hardlink')

def test_links_across_file_systems_are_refused(found, tmp_path, monkeypatch):
    import errno
    def link(*args, **kwargs): raise OSError(errno.EXDEV, 'Invalid cross-device link')
    monkeypatch.setattr(os, 'link', link)
    with pytest.raises(UserError, match='hard links need one file system'): found.write_folder(tmp_path/'new', 'link')

def test_images_without_files_are_written(tmp_path, tiles):
    x = np.stack([np.asarray(t) for t in (*tiles[:4], tiles[0], tiles[1])])
    f = dedup(x, labels=[0, 1, 0, 1, 0, 1], eps=.5)
    assert f.keep.tolist() == [0, 1, 2, 3]
    to = f.write_folder(tmp_path/'new'); f.write_folder(to)
    assert (len(files(to)) == 4 and {n.split('/')[0] for n in files(to)} == {'0', '1'}
            and all(np.asarray(Image.open(to/n)).shape == (200, 200, 3) for n in files(to)))
    with pytest.raises(UserError, match='no files to link to'): f.write_folder(tmp_path/'links', 'link')

def test_pixels_of_any_type_are_written_as_they_were_seen(tmp_path):
    "Floats as the scan read them, what is transparent as it was."
    torch = pytest.importorskip('torch')
    x = torch.rand((3, 3, 20, 24), generator=torch.Generator().manual_seed(0))
    to = dedup([(image, 0) for image in x], eps=0, cache=False).write_folder(tmp_path/'floats')
    written = [np.asarray(Image.open(f)) for f in sorted(to.rglob('*.png'))]
    assert [np.abs(w / 255. - image.permute(1, 2, 0).numpy()).max() < .01 for w, image in zip(written, x)] == [True] * 3
    rgba = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 4), np.uint8)
    assert all((np.asarray(Image.open(f)) == a).all()
               for f, a in zip(sorted(dedup(rgba, eps=0, cache=False).write_folder(tmp_path/'rgba').rglob('*.png')), rgba))

@pytest.fixture
def few(tmp_path, tiles):
    "Five small pictures, all of which stay."
    (tmp_path/'few').mkdir()
    for n, im in enumerate(tiles[:5]): im.resize((40, 40)).save(tmp_path/'few'/f'{n}.png')
    return dedup(tmp_path/'few', eps=0, cache=False)

def test_a_name_that_is_taken_is_never_overwritten(tmp_path, tiles):
    "Images without files of their own."
    f = dedup(np.stack([np.asarray(t.resize((40, 40))) for t in tiles[:3]]), eps=0, cache=False)
    names = files(f.write_folder(tmp_path/'new'))
    (tmp_path/'new'/names[1]).write_bytes(b'mine')
    with pytest.raises(UserError, match=f'{names[1]} is there already, and is something else'): f.write_folder(tmp_path/'new')
    assert (tmp_path/'new'/names[1]).read_bytes() == b'mine'

@pytest.mark.parametrize('how, function', [('copy', 'shutil.copy2'), ('link', 'os.link'), ('symlink', 'os.symlink')])
def test_a_full_disk_is_said_and_the_same_again_goes_on(few, tmp_path, monkeypatch, how, function):
    import errno
    module, name = function.split('.')
    real, calls = getattr({'os': os, 'shutil': shutil}[module], name), []
    def full(source, target, **kwargs):
        calls.append(target)
        if len(calls) == 3: raise OSError(errno.ENOSPC, 'No space left on device')
        return real(source, target, **kwargs)
    with monkeypatch.context() as m, pytest.raises(UserError, match='Cannot write .*the disk is full: free some space'):
        m.setattr(function, full); few.write_folder(tmp_path/'new', how)
    assert len(files(tmp_path/'new')) == 2
    assert files(few.write_folder(tmp_path/'new', how)) == [f'{n}.png' for n in range(5)]

def test_two_images_with_one_name_are_refused(few, tmp_path):
    "As of files on several drives, which no folder holds."
    few.photos.folder = None; few.photos.ids[:2] = '../a.png', 'a.png'
    with pytest.raises(UserError, match="2 images would have the name 'a.png'"): few.write_folder(tmp_path/'new')
    assert not (tmp_path/'new').exists()

def test_images_in_an_archive_are_written_as_they_are(tmp_path, tiles):
    "With an ending that says what they are."
    import tarfile
    (tmp_path/'in').mkdir()
    for im, name, kind in zip(tiles, ('a.jpg', 'b.jpeg', 'c.TIFF', 'd.png', 'e.jpg'), ('JPEG', 'JPEG', 'TIFF', 'PNG', 'PNG')):
        im.resize((40, 40)).save(tmp_path/'in'/name, kind)
    with tarfile.open(tmp_path/'x.tar', 'w') as tar: tar.add(tmp_path/'in', 'in')
    f = dedup(tmp_path/'x.tar', eps=0, cache=False)
    to = f.write_folder(tmp_path/'new'); f.write_folder(to)
    names = {'a.jpg': 'a.jpg', 'b.jpeg': 'b.jpeg', 'c.TIFF': 'c.TIFF', 'd.png': 'd.png', 'e.jpg': 'e.jpg.png'}
    assert (files(to) == sorted(f'in/{n}' for n in names.values())
            and all((to/'in'/new).read_bytes() == (tmp_path/'in'/old).read_bytes() for old, new in names.items()))

# Leaks

@pytest.mark.parametrize('encoder', ['pixels', 'fourier'])
def test_any_encoder_can_nominate_what_is_verified(tmp_path, album, tiles, encoder):
    "Views are rows of copies only: with others the image as it is nominates, and the pictures decide."
    f = dedup(album, eps=.5, encoder=encoder, verify=True)
    assert len(gone(f)) > 20 and all(picture(a) == picture(b) for a, b in zip(f.table['id'][gone(f)['index']], f.table['id'][gone(f)['duplicate_of']]))
    tiles[3].resize((90, 90)).save(tmp_path/'3.jpg', quality=70); tiles[10].save(tmp_path/'other.png')
    found = leaks(album, tmp_path, eps=.5, encoder=encoder, verify=True)
    assert found.table['leak'].tolist() == [True, False] and found.table['exact'].tolist() == ['', ''] and picture(found.table['duplicate_id'][0]) == '3'

def test_leaks(tmp_path, album, tiles):
    test = tmp_path/'test'
    for c in 'cats', 'dogs', 'birds': (test/c).mkdir(parents=True)
    for n in range(8, 12): tiles[n].save(test/'birds'/f'{n}.png')
    ImageOps.mirror(tiles[2]).resize((90, 90)).save(test/'cats'/'2.jpg', quality=80)
    shutil.copy(album/'dogs'/'3.png', test/'cats'/'3.png')
    tiles[4].save(test/'dogs'/'4.bmp')
    (test/'dogs'/'broken.png').write_bytes(b'')
    found = leaks(album, test, eps=.5)
    t = found.table.set_index('id')
    assert list(found.table)[:8] == ['index', 'id', 'label', 'duplicate_of', 'duplicate_id', 'duplicate_label', 'duplicate_similarity', 'leak'] and len(t) == 8
    assert (sorted(t.index[t['leak']]) == ['cats/2.jpg', 'cats/3.png', 'dogs/4.bmp']
            and t['exact'].to_dict() | {} == {**dict.fromkeys(t.index, ''), 'cats/3.png': 'bytes', 'dogs/4.bmp': 'pixels'})
    assert [picture(t['duplicate_id'][n]) for n in ('cats/2.jpg', 'cats/3.png', 'dogs/4.bmp')] == ['2', '3', '4']
    assert found.classes == ['cats', 'dogs', 'birds'] and [found.classes[t[c]['cats/3.png']] for c in ('label', 'duplicate_label')] == ['cats', 'dogs']
    assert (t['duplicate_of'] >= 0).sum() == 7 and t['problem']['dogs/broken.png'] and len(found.clean) == 4
    assert list(found.ranked['duplicate_similarity']) == sorted(found.ranked['duplicate_similarity'], reverse=True)
    assert len(found.rethreshold(0).ranked) >= 2 and list(found.subset(list(range(8)))) == found.clean.tolist()
    assert leaks(album, test, eps=.5).table.equals(found.table) and leaks(album, test, eps=.5, cache=False).table.equals(found.table)

def test_leaks_by_embedding(album):
    found = leaks(album, album, eps=.001, encoder='pixels')
    assert found.table['leak'].sum() == 57 and not found.config['verified']

def test_embeddings_that_depend_on_the_size_of_images_cannot_be_compared(tmp_path):
    import torch
    for name, side in ('train', 40), ('test', 70):
        (tmp_path/name).mkdir()
        for i in range(3): Image.effect_noise((side, side), 50 + i).save(tmp_path/name/f'{i}.png')
    with pytest.raises(UserError, match='embeddings of [0-9]+ numbers, test images of [0-9]+: give an encoder'):
        leaks(tmp_path/'train', tmp_path/'test', encoder=torch.nn.Flatten(), cache=False)
    found = leaks(tmp_path/'train', tmp_path/'train', eps=.001, encoder='pixels', cache=False)
    assert len(found) == 3 and repr(found) == 'Leaks(3 of 3 test images have a near-copy in training, eps=0.001)'
    assert pd.read_parquet(found.to_parquet(tmp_path/'leaks.parquet'))['leak'].all()

# Pruning

def test_class_floors(album):
    f = own.prune_photos(album, .2, encoder='pixels', n_clusters=4, floor=5)
    assert len(f.keep) == 12 and f.table[f.table['kept']]['label'].value_counts().min() >= 5 and not f.table['kept'][f.table['problem'] != ''].any()
    with pytest.raises(UserError, match='but only'): own.prune_photos(album, .1, encoder='pixels', n_clusters=4, floor=.5)
    with pytest.raises(UserError, match='has no labels'): own.prune_photos(album, .5, encoder='pixels', n_clusters=4, floor=.5, labels='none')

# Killed

@pytest.mark.skipif(os.name != 'posix', reason='no signals')
def test_killed_at_any_moment_the_rerun_gives_the_same(tmp_path, tiles):
    "Killed at moments of its life, then left to finish: the manifest is that of an undisturbed run."
    photos = make_album(tmp_path/'photos', tiles)
    command = [sys.executable, '-c', 'from semdedup.cli import main; main()', 'dedup', str(photos), '--eps', '0.5', '--copy', '--out']
    def start(out, cache):
        return subprocess.Popen([*command, str(out)], env={**os.environ, 'SEMDEDUP_CACHE': str(cache)},
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    began = time.monotonic(); assert start(tmp_path/'whole', tmp_path/'cache').wait(300) == 0; took = time.monotonic() - began
    for k in (.55, .8, .95):
        p = start(tmp_path/'out', tmp_path/'killed')
        time.sleep(k * took)
        os.killpg(p.pid, signal.SIGKILL); p.wait()
    assert start(tmp_path/'out', tmp_path/'killed').wait(300) == 0
    assert ((tmp_path/'out'/'manifest.parquet').read_bytes() == (tmp_path/'whole'/'manifest.parquet').read_bytes()
            and files(tmp_path/'out') == files(tmp_path/'whole'))

# Small differences in large pictures, and what is decided twice

def test_large_pictures_that_agree_at_a_reduced_size_are_not_the_same_pixels(tmp_path):
    "Blocks of 8 × 8 of one grey, and the same under a chequered pattern, which an eighth of the size does not see: to `leaks` as to `dedup`."
    base = np.kron(np.random.default_rng(0).integers(60, 190, (128, 128)), np.ones((8, 8)))
    pattern = 20 * (np.indices(base.shape).sum(0) % 2 * 2 - 1)
    for folder, pictures in ('train', {'a': base}), ('test', {'same': base, 'chequered': base + pattern}):
        (tmp_path/folder).mkdir()
        for name, a in pictures.items(): Image.fromarray(a.astype(np.uint8)).save(tmp_path/folder/f'{name}.jpg', quality=95)
    found = leaks(tmp_path/'train', tmp_path/'test', eps=.1, cache=False)
    assert dict(zip(found.table.id, found.table.exact)) == {'same.jpg': 'bytes', 'chequered.jpg': ''}

def test_leaks_at_the_same_threshold_are_the_same(album, tmp_path):
    found = leaks(album, album, eps=.1)
    for eps in sorted({float(1 - s) for s in found.similarity if 0 < s < 1})[:20]:
        fresh = leaks(album, album, eps=eps)
        pd.testing.assert_frame_equal(found.rethreshold(eps).table, fresh.table)
        pd.testing.assert_frame_equal(fresh.rethreshold(eps).table, fresh.table)

@pytest.mark.parametrize('rule', ['cover', 'semdedup'])
def test_a_target_beyond_copies_is_reached_by_both_rules(rule):
    pictures = np.random.default_rng(0).integers(0, 256, (30, 3, 24, 24), dtype=np.uint8)
    assert len(dedup(pictures, target=12, rule=rule, cache=False).keep) == 12

@pytest.mark.parametrize('kind', ['DIB', 'BMP', 'PPM', 'TIFF', 'GIF'])
def test_a_folder_made_of_a_table_can_be_made_again(tmp_path, kind):
    import io, pyarrow as pa, pyarrow.parquet as pq
    def encoded(seed):
        file = io.BytesIO(); Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)).save(file, kind)
        return file.getvalue()
    pq.write_table(pa.table({'image': [encoded(0), encoded(1)]}), tmp_path/'x.parquet')
    found = dedup(tmp_path/'x.parquet', eps=.1, cache=False)
    first = files(found.write_folder(tmp_path/'out'))
    assert files(found.write_folder(tmp_path/'out')) == first and len(first) == 2

def test_leaks_between_a_table_and_a_folder(tmp_path, tiles):
    "The columns are those of the table."
    import io, pyarrow as pa, pyarrow.parquet as pq
    def encoded(im):
        file = io.BytesIO(); im.save(file, 'PNG')
        return file.getvalue()
    pq.write_table(pa.table({'a': [encoded(im) for im in tiles[:4]], 'b': [encoded(im) for im in tiles[4:8]],
                             'kind': ['x', 'y', 'x', 'y']}), tmp_path/'train.parquet')
    (tmp_path/'test').mkdir(); tiles[1].save(tmp_path/'test'/'1.png'); tiles[9].save(tmp_path/'test'/'9.png')
    found = leaks(tmp_path/'train.parquet', tmp_path/'test', eps=.1, column='a', label_column='kind', cache=False)
    assert found.table.id[found.table.leak].tolist() == ['1.png'] and len(found.train) == 4
    with pytest.raises(UserError, match="column is 'a', but .* is a folder of images"): leaks(tmp_path/'test', tmp_path/'test', eps=.1, column='a', cache=False)
