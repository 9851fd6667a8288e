"""Images of every kind, from every kind of source: right, or reported with a reason."""
import io, os, pickle, struct, sys, tarfile, zlib
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest, torch
from PIL import Image, ImageCms, ImageDraw
import semdedup
from semdedup import UserError, load_images, open_photos, pictures
from semdedup.photos import PhotoDataset, positions_in, printable
from semdedup.pictures import MAX_BYTES, Unreadable, decode, plain_header, upright

def scene(size=(60, 40)):
    "Blue, with a red corner at the top left."
    im = Image.new('RGB', size, (30, 120, 200))
    ImageDraw.Draw(im).rectangle((0, 0, size[0] // 3, size[1] // 2), fill=(220, 30, 30))
    return im

def encoded(im, format='PNG', **kwargs):
    out = io.BytesIO(); im.save(out, format, **kwargs)
    return out.getvalue()

def without(jpeg, *kinds):
    "A JPEG less its segments of these kinds (the second byte of their marks), in two pieces: what stands before the scan, and the rest."
    kept, at = [jpeg[:2]], 2
    while jpeg[at + 1] != 0xda: # the scan, which is all that follows
        end = at + 2 + int.from_bytes(jpeg[at + 2:at + 4], 'big')
        if jpeg[at + 1] not in kinds: kept.append(jpeg[at:end])
        at = end
    return b''.join(kept), jpeg[at:]

PIXELS = np.asarray(scene()).transpose(2, 0, 1)
GREY = np.asarray(scene().convert('L'))

def write(folder, files):
    for name, content in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(content)
    return folder

# The short way for small JPEGs

def outcome(data, enough=None):
    "All that is said of a picture."
    try: p = upright(data, enough)
    except Unreadable as e: return str(e)
    return p.pixels, p.image.size, p.width, p.height, p.reduced, p.format, p.as_it_is

SMALL = [encoded(im, 'JPEG', **how) for im in (scene(), scene().convert('L'), scene().convert('CMYK'), scene((8, 200)))
         for how in ({}, dict(progressive=True), dict(subsampling=0, comment=b'hello'), dict(restart_marker_rows=1), dict(exif=Image.Exif()))]

def damaged(data, rng):
    "Bytes are changed, lost or added, mostly in the header."
    d = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(min(len(d), rng.choice([400, 10**6]))))
        d[at:at + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
    return bytes(d[:int(rng.integers(1, len(d)))] if rng.random() < .2 else d)

def test_the_short_way_gives_what_the_long_one_gives(monkeypatch):
    "To the last bit, and with the same reasons; also for damaged files."
    rng = np.random.default_rng(0)
    files = [*SMALL, *(damaged(SMALL[k % len(SMALL)], rng) for k in range(3000))]
    short, decode_shortly = [], pictures.small_jpeg
    def counting(*args): im = decode_shortly(*args); short.append(im is not None); return im
    for enough in None, 20:
        monkeypatch.setattr(pictures, 'small_jpeg', counting)
        got = [outcome(f, enough) for f in files]
        monkeypatch.setattr(pictures, 'small_jpeg', lambda *args: None)
        assert got == [outcome(f, enough) for f in files]
    assert sum(short) > 300 and short.count(False) > 1000 # both ways are taken

@pytest.mark.parametrize('how', [{}, dict(progressive=True), dict(quality=100, subsampling=0)], ids=str)
def test_a_file_that_is_read_in_several_pieces_gives_the_same(monkeypatch, how):
    "Pillow reads 64 kB at a time, the short way all at once."
    noise = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 500, 3), dtype=np.uint8)), 'JPEG', **how)
    cut = noise[:-2] # without its end mark
    got = [outcome(f) for f in (noise, cut)]
    assert len(noise) > 2**17 and pictures.small_jpeg(noise, None, 10**9) is not None
    monkeypatch.setattr(pictures, 'small_jpeg', lambda *args: None)
    assert got == [outcome(f) for f in (noise, cut)]

def turned(orientation):
    "EXIF that says so."
    exif = Image.Exif(); exif[0x0112] = orientation
    return exif

ODD = {'one pixel': encoded(Image.new('RGB', (1, 1), (9, 8, 7)), 'JPEG'),
       'one row': encoded(scene((300, 1)), 'JPEG'), 'cmyk': encoded(scene().convert('CMYK'), 'JPEG'),
       'icc profile': encoded(scene(), 'JPEG', icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()),
       'as tables only': without(encoded(scene(), 'JPEG'), 0xe0, 0xc0)[0] + b'\xff\xd9',
       'without tables': b''.join(without(encoded(scene(), 'JPEG'), 0xdb, 0xc4)), 'two in a row': encoded(scene(), 'JPEG') * 2,
       'something behind': encoded(scene(), 'JPEG') + b'more', 'fill bytes': b'\xff\xd8\xff\xff' + encoded(scene(), 'JPEG')[2:], 'mark only': b'\xff\xd8',
       'no marks': b'\xff\xd8\xff\xe0', 'a png': encoded(scene()), 'empty': b'',
       **{f'turned {k}': encoded(scene(), 'JPEG', exif=turned(k)) for k in range(1, 9)}}

@pytest.mark.parametrize('data', ODD.values(), ids=ODD)
@pytest.mark.parametrize('enough', [None, 1, 20])
def test_odd_files_go_the_long_way_or_give_the_same(monkeypatch, data, enough):
    got = outcome(data, enough)
    monkeypatch.setattr(pictures, 'small_jpeg', lambda *args: None)
    assert got == outcome(data, enough)

def test_what_is_plain():
    plain = encoded(scene(), 'JPEG')
    assert plain_header(plain) == (60, 40, 3) and plain_header(encoded(scene().convert('L'), 'JPEG')) == (60, 40, 1)
    exif = Image.Exif(); exif[0x0112] = 6
    assert plain_header(encoded(scene(), 'JPEG', exif=exif)) is None and plain_header(encoded(scene())) is None
    assert outcome(plain, 20)[1] == (30, 20) and outcome(plain, 21)[1] == (60, 40) # half the size, where that is enough

# One picture

def transparent():
    im = scene().convert('RGBA'); im.putpixel((0, 0), (0, 0, 0, 0))
    return im

def palette_with_transparency(colour):
    im = Image.new('P', (2, 1)); im.putpalette([9, 9, 9, 220, 30, 30]); im.putpixel((1, 0), 1)
    return encoded(im, transparency=colour)

def animation(format):
    frames = [scene(), Image.new('RGB', (60, 40))]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], **({'lossless': True} if format == 'WEBP' else {}))

LOSSLESS = {'png': encoded(scene()), 'bmp': encoded(scene(), 'BMP'), 'tiff': encoded(scene(), 'TIFF'),
            'tiff lzw': encoded(scene(), 'TIFF', compression='tiff_lzw'), 'webp': encoded(scene(), 'WEBP', lossless=True), 'gif': encoded(scene(), 'GIF'),
            'palette': encoded(scene().quantize()), 'ppm': encoded(scene(), 'PPM'), 'interlaced': encoded(scene(), optimize=True),
            'animated png': animation('PNG'), 'animated webp': animation('WEBP'), 'animated gif': animation('GIF'),
            'pages': encoded(scene(), 'TIFF', save_all=True, append_images=[Image.new('RGB', (5, 5))]), 'opaque': encoded(scene().convert('RGBA'))}
LOSSY = {'jpeg': encoded(scene(), 'JPEG', quality=95), 'progressive': encoded(scene(), 'JPEG', quality=95, progressive=True),
         'cmyk jpeg': encoded(scene().convert('CMYK'), 'JPEG', quality=95), 'cmyk tiff': encoded(scene().convert('CMYK'), 'TIFF'),
         'ycbcr tiff': encoded(scene().convert('YCbCr'), 'TIFF', compression='tiff_lzw'), 'webp': encoded(scene(), 'WEBP', quality=95),
         'lab tiff': encoded(ImageCms.profileToProfile(scene(), ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), outputMode='LAB'), 'TIFF')}

@pytest.mark.parametrize('data', LOSSLESS.values(), ids=LOSSLESS)
def test_pixels_of_lossless_kinds(data): np.testing.assert_array_equal(decode(data), PIXELS)

@pytest.mark.parametrize('data', LOSSY.values(), ids=LOSSY)
def test_pixels_of_lossy_kinds(data): assert np.abs(decode(data)[:, ::4, 3::4].astype(int) - PIXELS[:, ::4, 3::4]).mean() < 6

@pytest.mark.parametrize('data, want', [
    (encoded(Image.fromarray(GREY.astype(np.uint16) * 257)), GREY), (encoded(Image.fromarray(GREY.astype(np.uint16) * 257), 'TIFF'), GREY),
    (encoded(Image.fromarray(GREY.astype(np.int32) * 257), 'TIFF'), GREY), (encoded(Image.fromarray(GREY / np.float32(255)), 'TIFF'), GREY),
    (encoded(Image.fromarray(GREY)), GREY), (encoded(Image.fromarray(GREY >= 128)), (GREY >= 128) * 255), (encoded(Image.fromarray(GREY), 'JPEG2000'), GREY)],
    ids=['16 bits png', '16 bits tiff', '32 bits', 'float', 'grey', 'black and white', 'jpeg 2000'])
def test_grey_of_any_depth(data, want):
    for channel in decode(data): np.testing.assert_array_equal(channel, want)

def test_what_is_transparent_is_white():
    got = decode(encoded(transparent()))
    np.testing.assert_array_equal(got[:, 0, 0], [255] * 3); np.testing.assert_array_equal(got[:, 0, 1:], PIXELS[:, 0, 1:])
    np.testing.assert_array_equal(decode(palette_with_transparency(0))[:, 0], [[255, 220], [255, 30], [255, 30]])
    np.testing.assert_array_equal(decode(palette_with_transparency(b'\x80\xff'))[0, 0], [132, 220])                 # half of 9, half of white
    np.testing.assert_array_equal(decode(encoded(transparent().convert('LA')))[:, 0, 0], [255] * 3)
    np.testing.assert_array_equal(decode(encoded(Image.new('RGB', (1, 1), (1, 2, 3)), transparency=(1, 2, 3)))[:, 0, 0], [255] * 3)

def test_a_camera_s_damaged_exif_does_no_harm():
    exif = Image.Exif(); exif[0x0112] = 6
    whole = encoded(scene(), 'JPEG', exif=exif)
    assert decode(whole).shape == (3, 60, 40)
    at = whole.index(b'Exif') + 12
    assert decode(whole[:at] + b'\xff' * 8 + whole[at + 8:]).shape == (3, 40, 60)
    exif[0x0112] = 99
    assert decode(encoded(scene(), 'JPEG', exif=exif)).shape == (3, 40, 60)

@pytest.mark.parametrize('error', [SyntaxError('not a TIFF file'), struct.error('unpack requires a buffer'), ZeroDivisionError()],
                         ids=lambda e: type(e).__name__)
def test_whatever_pillow_says_of_exif_does_no_harm(monkeypatch, error):
    exif = Image.Exif(); exif[0x0112] = 6
    def broken(im): raise error
    monkeypatch.setattr(Image.Image, 'getexif', broken)
    assert decode(encoded(scene(), 'JPEG', exif=exif)).shape == (3, 40, 60)

def png_header(w, h):
    "A PNG of so many pixels that holds none."
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')

BROKEN = {'empty': (b'', 'the file is empty'), 'a web page': (b'<!DOCTYPE html>', 'not an image'), 'zeros': (bytes(1000), 'not an image'),
          'a bomb': (png_header(60_000, 60_000), '60,000 × 60,000 pixels are more than the limit'), 'no size': (png_header(0, 0), None),
          'header only': (LOSSY['jpeg'][:20], None), 'postscript': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'not an image'),
          'heic': (b'\0\0\0\x18ftypheic' + bytes(40), 'convert it to JPEG')}
BROKEN |= {f'half of {k}': (v[:len(v) // 2], None) for k, v in {**LOSSLESS, **LOSSY}.items() if 'pages' not in k and 'animated' not in k}

@pytest.mark.parametrize('data, says', BROKEN.values(), ids=BROKEN)
def test_what_is_broken_says_why(data, says):
    with pytest.raises(Unreadable, match=says) as e: decode(data)
    assert 0 < len(e.value.reason) < 250 and '\n' not in e.value.reason and ' at 0x' not in e.value.reason
    with pytest.raises(Unreadable) as again: decode(data)
    assert again.value.reason == e.value.reason

def test_random_damage_never_raises_anything_else():
    rng = np.random.default_rng(0)
    for data in [*LOSSLESS.values(), *LOSSY.values()] * 3:
        hurt = bytearray(data)
        for at in rng.integers(0, len(data), 4): hurt[at] = rng.integers(256)
        try: assert decode(bytes(hurt), 16).shape == (3, 16, 16)
        except Unreadable as e: assert e.reason

def test_the_limit_can_be_set_and_pillow_is_left_as_it_was(monkeypatch):
    before = Image.MAX_IMAGE_PIXELS
    for limit, fits in ('2400', True), ('2399', False):
        monkeypatch.setenv('SEMDEDUP_MAX_PIXELS', limit)
        if fits: decode(LOSSLESS['png'])
        else:
            with pytest.raises(Unreadable, match='2,399'): decode(LOSSLESS['png'])
    monkeypatch.setenv('SEMDEDUP_MAX_PIXELS', 'many')
    with pytest.raises(UserError, match="SEMDEDUP_MAX_PIXELS is 'many'"): decode(LOSSLESS['png'])
    assert Image.MAX_IMAGE_PIXELS == before

# Folders

NAMES = ['Köln.png', '東京/日本 語.png', 'עברית.png', '🐈.png', '<img src=x onerror=alert(1)>.png', 'a b\tc.png', 'new\nline.png', '"quoted".png',
         "it's.png", '%20.png', 'UPPER.PNG', 'back\\slash.png', '-rf.png', '$(x).png', 'é.png', 'e\u0301.png', 'x' * 200 + '.png']

@pytest.mark.skipif(os.name == 'nt', reason='Windows allows few of these names')
def test_names_in_any_script(tmp_path):
    write(tmp_path, dict.fromkeys(NAMES, LOSSLESS['png']))
    photos = open_photos(tmp_path)
    assert sorted(photos.ids) == sorted(n.replace('\\', '\\\\') for n in NAMES)
    for i in range(len(photos)): assert photos.read(i) == LOSSLESS['png'] and photos.path(i).exists()

@pytest.mark.skipif(sys.platform != 'linux', reason='other systems refuse such names')
def test_names_in_no_encoding_survive_into_a_table(tmp_path):
    write(tmp_path, {os.fsdecode(name): LOSSLESS['png'] for name in (b'caf\xe9.png', b'\xff\xfe/\x80.png', b'caf\\xe9.png')})
    photos = open_photos(tmp_path)
    assert set(photos.ids) == {r'caf\xe9.png', r'\xff\xfe/\x80.png', r'caf\\xe9.png'}
    pq.write_table(pa.table({'id': list(photos.ids)}), tmp_path/'ids.parquet')
    assert pq.read_table(tmp_path/'ids.parquet')['id'].to_pylist() == list(photos.ids)
    for i in range(3): assert photos.read(i) == LOSSLESS['png']
    assert open_photos([photos.path(0)]).read(0) == LOSSLESS['png']

def test_what_is_no_image_is_counted(tmp_path):
    write(tmp_path, {'a.png': LOSSLESS['png'], 'notes.txt': b'x', 'more.TXT': b'', 'README': b'',
                     '.hidden.png': LOSSLESS['png'], '.git/x.png': LOSSLESS['png'], '__MACOSX/._a.png': b'x', 'raw.cr2': LOSSLESS['tiff'],
                     'without': LOSSY['jpeg'], 'photo.jpg~': LOSSY['jpeg'], 'wrong.png': LOSSY['jpeg'], 'text.jpg': b'hello', 'empty.gif': b''})
    photos = open_photos(tmp_path)
    assert list(photos.ids) == ['a.png', 'empty.gif', 'photo.jpg~', 'text.jpg', 'without', 'wrong.png']
    assert photos.skipped == {'.txt': 2, 'without ending': 1, 'hidden': 3, '.cr2': 1}

@pytest.mark.skipif(os.name == 'nt', reason='links need rights on Windows')
def test_links_pipes_and_loops(tmp_path):
    folder = write(tmp_path/'photos', {'a/1.png': LOSSLESS['png'], 'b/2.png': LOSSLESS['bmp']})
    write(tmp_path/'elsewhere', {'3.png': LOSSLESS['png'], 'c/4.png': LOSSLESS['png']})
    for link, target in {'a/same.png': '1.png', 'a/up': '..', 'loop.png': 'loop.png', 'other.png': '../elsewhere/3.png', 'gone.png': 'nowhere',
                         'c': '../elsewhere/c', 'c again': '../elsewhere/c', 'b/deep': '../a'}.items():
        (folder/link).symlink_to(target)
    os.mkfifo(folder/'pipe.png'); os.mkfifo(folder/'pipe'); (folder/'pipe link.png').symlink_to('pipe')
    photos = open_photos(folder)
    assert list(photos.ids) == ['gone.png', 'loop.png', 'other.png', 'pipe link.png', 'a/1.png', 'b/2.png', 'c/4.png']
    assert photos.skipped == {'links to images that are in the list': 1, 'links to folders that are read anyway': 3, 'neither file nor folder': 2}
    for name, says in {'gone.png': 'No such file', 'loop.png': '.', 'pipe link.png': 'not a file'}.items():
        with pytest.raises(Unreadable, match=says): photos.read(list(photos.ids).index(name))

@pytest.mark.skipif(os.name == 'nt' or not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may read everything')
def test_what_may_not_be_read(tmp_path):
    write(tmp_path, {'a.png': LOSSLESS['png'], 'b.png': LOSSLESS['png'], 'locked/c.png': LOSSLESS['png']})
    (tmp_path/'b.png').chmod(0); (tmp_path/'locked').chmod(0)
    try:
        photos = open_photos(tmp_path)
        assert list(photos.ids) == ['a.png', 'b.png'] and photos.skipped == {'folder locked: Permission denied': 1}
        with pytest.raises(Unreadable, match='Permission denied'): photos.read(1)
    finally: (tmp_path/'locked').chmod(0o700)

def test_a_file_that_goes_or_grows_is_unreadable(tmp_path):
    photos = open_photos(write(tmp_path, {'a.png': LOSSLESS['png'], 'b.png': LOSSLESS['png']}))
    (tmp_path/'a.png').unlink()
    with open(tmp_path/'b.png', 'r+b') as f: f.truncate(MAX_BYTES + 1)                                             # sparse
    with pytest.raises(Unreadable, match='No such file'): photos.read(0)
    with pytest.raises(Unreadable, match='more than the limit'): photos.read(1)

@pytest.mark.parametrize('names, classes', [
    (['cats/1', 'cats/2', 'dogs/1', 'dogs/2'], ['cats', 'dogs']), (['train/cats/1', 'train/cats/2', 'test/dogs/1', 'test/dogs/2'], ['cats', 'dogs']),
    (['1', 'cats/2', 'cats/3', 'dogs/1', 'dogs/4'], []),
    (['2019/may/1', '2019/may/2', '2020/1', '2020/2'], []), (['a/1', 'b/1', 'c/1'], []), (['cats/1', 'cats/2'], []), (['1', '2'], [])])
def test_class_folders_or_just_folders(tmp_path, names, classes):
    photos = open_photos(write(tmp_path, {f'{n}.png': LOSSLESS['png'] for n in names}))
    assert photos.classes == classes and (photos.labels is None) == (classes == [])
    assert open_photos(tmp_path, labels='none').labels is None
    if any('/' in n for n in names): assert len(open_photos(tmp_path, labels='folders').classes) >= 1

def test_the_order_is_that_of_image_folder(tmp_path):
    from torchvision.datasets import ImageFolder
    write(tmp_path, dict.fromkeys(('a/z.png', 'a/sub/a.png', 'a/sub-b/c.png', 'a-b/1.png', 'a-b/10.png', 'a-b/2.png', 'B/1.png'), LOSSLESS['png']))
    own = ImageFolder(str(tmp_path))
    photos = open_photos(tmp_path, labels='folders')
    assert [str(photos.path(i)) for i in range(len(photos))] == [p for p, _ in own.samples]
    assert list(photos.labels) == own.targets and photos.classes == own.classes

def test_a_split_is_a_folder_below(tmp_path):
    write(tmp_path, {f'{s}/{c}/{i}.png': LOSSLESS['png'] for s in ('train', 'test') for c in 'ab' for i in range(2)})
    assert list(open_photos(f'{tmp_path}:test').ids) == ['a/0.png', 'a/1.png', 'b/0.png', 'b/1.png'] and len(open_photos(tmp_path, split='train')) == 4
    with pytest.raises(UserError, match="no folder 'val'"): open_photos(f'{tmp_path}:val')

def test_the_digest_follows_every_change(tmp_path):
    write(tmp_path, {'a.bmp': LOSSLESS['bmp'], 'b.bmp': LOSSLESS['bmp']})
    def told(change):
        before = open_photos(tmp_path).digest
        change()
        return open_photos(tmp_path).digest != before
    stat = os.stat(tmp_path/'a.bmp')
    assert not told(lambda: None)
    def disguised():
        (tmp_path/'a.bmp').write_bytes(encoded(Image.new('RGB', (60, 40)), 'BMP'))
        os.utime(tmp_path/'a.bmp', ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert told(disguised)                                             # the same size and the same time of the last change
    assert told(lambda: (tmp_path/'a.bmp').rename(tmp_path/'c.bmp')) and told((tmp_path/'b.bmp').unlink)

# Other sources

def write_tar(path, files, mode='w'):
    with tarfile.open(path, mode) as t:
        for name, data in files.items():
            m = tarfile.TarInfo(name); m.size = len(data); t.addfile(m, io.BytesIO(data))
    return path

def sources(folder):
    "The same six images with labels, in every kind of source: name → what `open_photos` is given."
    rng = np.random.default_rng(0)
    arrays, labels = rng.integers(0, 256, (6, 12, 10, 3)).astype(np.uint8), np.array([0, 1, 0, 1, 1, 0])
    data = [encoded(Image.fromarray(a)) for a in arrays]
    names = [f'{"ab"[y]}/{i}.png' for i, y in enumerate(labels)]
    order = sorted(range(6), key=names.__getitem__)
    write(folder/'classes', dict(zip(names, data)))
    table = pa.table({'image': data, 'label': labels})
    pq.write_table(table, folder/'t.parquet', row_group_size=2)
    (folder/'tables').mkdir(); (folder/'tars').mkdir()
    for k in range(2): pq.write_table(table.slice(3 * k, 3), folder/'tables'/f'train-0000{k}-of-00002.parquet')
    tar = {f'{i}.{e}': d for i in range(6) for e, d in (('png', data[i]), ('cls', str(labels[i]).encode()))}
    write_tar(folder/'x.tar', tar)
    for k, some in enumerate([range(6), range(6, 12)]): write_tar(folder/'tars'/f'{k}.tar', {n: tar[n] for n in list(tar)[some.start:some.stop]})
    np.save(folder/'x.npy', arrays)
    np.savez(folder/'x.npz', test_images=arrays, test_labels=labels, train_images=arrays[:1], train_labels=labels[:1])
    np.savez(folder/'plain.npz', images=arrays, labels=labels)
    pil = [(Image.fromarray(a), int(y)) for a, y in zip(arrays, labels)]
    images = load_images('digits'); images.test.images, images.test.labels = arrays.transpose(0, 3, 1, 2), labels
    return arrays, labels, order, {'folder': folder/'classes', 'paths': [folder/'classes'/n for n in names], 'parquet': folder/'t.parquet',
                                   'parquets': folder/'tables', 'split of parquets': f'{folder/"tables"}:train', 'tar': folder/'x.tar', 'tars': folder/'tars',
                                   'npy': folder/'x.npy', 'npz': f'{folder/"x.npz"}:test', 'plain npz': folder/'plain.npz', 'array': arrays,
                                   'items': pil, 'split': images.test, 'images': images}

KINDS = ['folder', 'paths', 'parquet', 'parquets', 'split of parquets', 'tar', 'tars', 'npy', 'npz', 'plain npz', 'array', 'items', 'split', 'images']

@pytest.fixture(scope='module')
def same(tmp_path_factory): return sources(tmp_path_factory.mktemp('sources'))

@pytest.mark.parametrize('kind', KINDS)
def test_the_same_images_from_everywhere(same, kind):
    arrays, labels, order, all_sources = same
    photos = open_photos(all_sources[kind], split='test' if kind == 'images' else None)
    rows = order if kind == 'folder' else range(6)
    assert len(photos) == 6 and len(set(photos.ids)) == 6
    for k, i in enumerate(rows): np.testing.assert_array_equal(decode(photos.read(k)).transpose(1, 2, 0), arrays[i])
    if kind not in ('paths', 'npy', 'array', 'items'): np.testing.assert_array_equal(photos.labels, labels[list(rows)])
    travelled = pickle.loads(pickle.dumps(photos.take([4, 1])))
    for k, i in enumerate([4, 1]): np.testing.assert_array_equal(decode(travelled.read(k)), decode(photos.read(i)))
    assert (photos.fingerprints is None) == (kind == 'items')
    if kind != 'items': assert len({bytes(f) for f in photos.fingerprints}) == 6

def test_labels_of_ones_own(same):
    photos = open_photos(same[3]['array'], labels=['x', 'y', 'x', 'x', 'x', None])
    assert list(photos.labels) == [0, 1, 0, 0, 0, -1] and photos.classes == ['x', 'y']
    with pytest.raises(UserError, match='2 labels for 6 images'): open_photos(same[3]['array'], labels=[0, 1])

def test_a_dataset_that_raises_is_reported_image_by_image():
    class Moody:
        targets = [0, 1, 0]
        def __len__(self): return 3
        def __getitem__(self, i): return [lambda: 1 / 0, lambda: (None, 1), lambda: (scene(), 0)][i]()
    photos = open_photos(Moody(), column=0)
    for i, says in (0, 'ZeroDivisionError: division by zero'), (1, 'there is no image'):
        with pytest.raises(Unreadable, match=says): photos.read(i)
    np.testing.assert_array_equal(decode(photos.read(2)), PIXELS)
    assert list(photos.labels) == [0, 1, 0]

def test_labels_in_json_and_damaged_notes(tmp_path):
    notes = {'a.json': b'{"kind": "cat", "label": 3}', 'b.json': b'{', 'c.cls': b'\xff', 'd.json': b'[1]', 'e.json': b'{"kind": "dog"}'}
    tar = write_tar(tmp_path/'x.tar', {f'{k}.png': LOSSLESS['png'] for k in 'abcde'} | notes)
    assert list(open_photos(tar, label_column='kind').labels) == [0, -1, -1, -1, 1] and open_photos(tar, label_column='kind').classes == ['cat', 'dog']

def test_a_compressed_tar_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match='gzip -d'): open_photos(write_tar(tmp_path/'x.tar', {'a.png': LOSSLESS['png']}, 'w:gz'))

def npz(path, **arrays): np.savez(path, **arrays); return path

def says_more(path):
    "A table whose own description counts one row more than its parts do."
    pq.write_table(pa.table({'image': [LOSSLESS['png']] * 40}), path)
    whole = path.read_bytes()
    for at in (i for i in range(len(whole) - 1) if whole[i:i + 2] == b'\x16\x50'): # a number of 64 bits, and 40
        path.write_bytes(whole[:at + 1] + b'\x52' + whole[at + 2:])
        try: f = pq.ParquetFile(path)
        except Exception: continue
        if f.metadata.num_rows == 41 and f.metadata.row_group(0).num_rows == 40: return path
    raise AssertionError('nothing in the file counts its rows')

WRONG = {'nothing there': (lambda f: f/'nowhere', 'no such file or folder'), 'empty folder': (lambda f: f, 'holds no images'),
         'only text': (lambda f: write(f, {'a.txt': b'', 'b.txt': b''}), '2 .txt'),
         'a text': (lambda f: write(f, {'a.txt': b'x'})/'a.txt', 'is no folder, image'), 'a number': (lambda f: 7, 'no length or no items'),
         'nobody': (lambda f: None, 'no length'), 'empty list': (lambda f: [], 'empty'),
         'embeddings': (lambda f: np.zeros((4, 9), np.float32), 'look like embeddings'), 'misspelt': (lambda f: 'cifar1:train', 'no data set of that name'),
         'split of digits': (lambda f: 'digits:val', "no split 'val'"),
         'broken parquet': (lambda f: write(f, {'a.parquet': b'PAR1'})/'a.parquet', 'cannot be read as Parquet'),
         'broken npy': (lambda f: write(f, {'a.npy': b'x'})/'a.npy', 'plain arrays'),
         'parquet that says more': (lambda f: says_more(f/'a.parquet'), 'says that it has 41 rows, and holds 40: it is damaged'),
         'split of an image': (lambda f: f'{write(f, {"a.png": LOSSLESS["png"]})/"a.png"}:train', "has no splits. Leave 'train' out"),
         'npz of something else': (lambda f: npz(f/'a.npz', y=GREY), 'holds y; expected images'),
         'npz of nothing': (lambda f: npz(f/'a.npz'), 'holds nothing; expected images'),
         'split of an npz': (lambda f: f'{npz(f/"a.npz", images=GREY[None])}:train', "has no split 'train'. There are: none"),
         'labels too few': (lambda f: npz(f/'a.npz', images=np.stack([GREY] * 3), labels=[0, 1]), '2 labels for 3 images'),
         'labels that skip': (lambda f: npz(f/'a.npz', images=np.stack([GREY] * 2), labels=[0, 2_000_000]), 'labels go up to 2000000'),
         'twice': (lambda f: [write(f, {'a.png': b''})/'a.png', f/'.'/'a.png'], '2 times'),
         'empty array': (lambda f: np.zeros((0, 8, 8), np.uint8), 'are empty')}

@pytest.mark.parametrize('make, says', WRONG.values(), ids=WRONG)
def test_a_wrong_source_is_answered(tmp_path, make, says):
    with pytest.raises(UserError, match=says): open_photos(make(tmp_path))

def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path/'x.npy', np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match='plain arrays'): open_photos(tmp_path/'x.npy')
    np.savez(tmp_path/'x.npz', images=np.array([{}]))
    with pytest.raises(UserError, match='plain arrays'): open_photos(tmp_path/'x.npz')

def test_parquet_columns_must_be_plain(tmp_path):
    pq.write_table(pa.table({'a': [LOSSLESS['png']], 'b': [LOSSLESS['bmp']], 'n': [1]}), tmp_path/'x.parquet')
    with pytest.raises(UserError, match=r'several columns of bytes \(a, b\)'): open_photos(tmp_path/'x.parquet')
    assert open_photos(tmp_path/'x.parquet', column='b').read(0) == LOSSLESS['bmp']
    pq.write_table(pa.table({'n': [1]}), tmp_path/'y.parquet')
    with pytest.raises(UserError, match='no column of bytes'): open_photos(tmp_path/'y.parquet')

def test_a_hugging_face_data_set(tmp_path):
    datasets = pytest.importorskip('datasets')
    make = lambda n: datasets.Dataset.from_dict({'picture': [{'bytes': LOSSLESS['png'], 'path': None}] * n, 'kind': [i % 2 for i in range(n)]},
                                                features=datasets.Features({'picture': datasets.Image(), 'kind': datasets.ClassLabel(names=['cat', 'dog'])}))
    ds = make(5)
    datasets.DatasetDict(train=ds, test=make(2)).save_to_disk(tmp_path/'dict'); ds.save_to_disk(tmp_path/'one'); ds.to_parquet(tmp_path/'x.parquet')
    for source in ds, tmp_path/'one', f'{tmp_path/"dict"}:train', tmp_path/'x.parquet':
        photos = open_photos(source, label_column='kind')
        assert len(photos) == 5 and photos.read(3) == LOSSLESS['png'] and list(photos.labels) == [0, 1, 0, 1, 0] and photos.classes == ['cat', 'dog']
        assert pickle.loads(pickle.dumps(photos)).read(0) == LOSSLESS['png']
    assert open_photos(tmp_path/'one').digest == open_photos(tmp_path/'one').digest != open_photos(f'{tmp_path/"dict"}:test').digest
    assert len(ds.select(np.array([0, 2]))) == 2                       # positions are those of the data set
    with pytest.raises(UserError, match='splits train, test'): open_photos(tmp_path/'dict')
    with pytest.raises(UserError, match="no column 'image'"): open_photos(ds, column='image')
    with pytest.raises(UserError, match='streamed'): open_photos(ds.to_iterable_dataset())
    (tmp_path/'one'/'state.json').write_text('{')
    with pytest.raises(UserError, match='cannot be read as a saved'): open_photos(tmp_path/'one')

def test_without_the_extra_its_name_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)
    with pytest.raises(UserError, match=r'semdedup\[hf\]'): open_photos(write(tmp_path, {'state.json': b'{}', 'dataset_info.json': b'{}'}))

def test_a_file_is_no_code(tmp_path):
    "Different names stay different, and none holds what a page or a table cannot."
    names = [os.fsdecode(bytes([b])) for b in range(1, 256) if b != 47] + ['\\x80', '\\\\', '\ud800']
    made = [printable(n) for n in names]
    assert len(set(made)) == len(names)
    for m in made: m.encode('utf-8')

def test_names_of_a_data_set_that_are_not_there(tmp_path):
    datasets = pytest.importorskip('datasets')
    one = datasets.Dataset.from_dict({'a': [LOSSLESS['png']], 'b': [LOSSLESS['bmp']], 'n': [1]})
    with pytest.raises(UserError, match="no split 'val'. There are: train"): open_photos(datasets.DatasetDict(train=one), split='val')
    with pytest.raises(UserError, match='has 0 columns of images'): open_photos(one.select_columns(['n']))
    with pytest.raises(UserError, match="no column 'kind'. There are: a, b, n"): open_photos(one, column='a', label_column='kind')

def test_bytes_in_a_data_set_are_images(tmp_path):
    "A column of bytes, which the library does not take for images."
    datasets = pytest.importorskip('datasets')
    features = datasets.Features({'data': datasets.Value('binary'), 'label': datasets.Value('int64')})
    photos = open_photos(datasets.Dataset.from_dict({'data': [LOSSLESS['png'], LOSSLESS['bmp']], 'label': [1, 0]}, features=features))
    assert photos.read(1) == LOSSLESS['bmp'] and list(photos.labels) == [1, 0]

# Back to what one trains on

def test_a_selection_finds_its_images_again(tmp_path):
    "In an ImageFolder that knows other files, in a Hugging Face data set, and in a list."
    from torchvision.datasets import ImageFolder
    from semdedup import kmeans, prune, rank
    write(tmp_path, {f'{c}/{i}.{e}': LOSSLESS['png'] for c in 'ab' for i, e in enumerate(['png', 'gif', 'jpg', 'png'])})
    photos, own = open_photos(tmp_path), ImageFolder(str(tmp_path))
    assert (len(photos), len(own)) == (8, 6)                           # ImageFolder takes no GIF
    groups = kmeans(np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), 2)
    picked = prune(groups, rank(groups), ratio=.5)
    picked.table['id'] = photos.ids
    subset = picked.subset(own)
    assert [os.path.relpath(own.samples[i][0], tmp_path) for i in subset.indices] == [i for i in photos.ids[picked.keep] if not i.endswith('gif')]
    assert picked.subset(list(range(8))).indices == picked.keep.tolist()
    datasets = pytest.importorskip('datasets')
    assert picked.subset(datasets.Dataset.from_dict({'n': range(8)}))['n'][:] == picked.keep.tolist()

# What happens between listing and reading

def test_a_pipe_is_no_image_and_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    write(tmp_path, {'a.png': encoded(scene()), 'closed/b.png': encoded(scene())})
    if hasattr(os, 'mkfifo'): os.mkfifo(tmp_path/'pipe')
    scandir = os.scandir
    def refuse(path):
        if str(path).rstrip(os.sep).endswith('closed'): raise PermissionError(13, 'Permission denied')
        return scandir(path)
    monkeypatch.setattr(os, 'scandir', refuse)
    photos = open_photos(tmp_path)
    assert (list(photos.ids) == ['a.png'] and 'folder closed: Permission denied' in photos.skipped
            and ('neither file nor folder' in photos.skipped) == hasattr(os, 'mkfifo'))
    with pytest.raises(UserError, match='cannot be opened'): open_photos(tmp_path/'closed')

def test_a_file_whose_beginning_may_not_be_read_is_no_image(tmp_path, monkeypatch):
    "It has no ending that says so, and nobody can look."
    import builtins
    write(tmp_path, {'a.png': LOSSLESS['png'], 'b': LOSSLESS['png'], 'c': LOSSLESS['png']})
    def refuse(path, *args):
        if str(path).endswith('c'): raise PermissionError(13, 'Permission denied')
        return builtins.open(path, *args)
    monkeypatch.setattr('semdedup.photos.open', refuse, raising=False)
    assert list(open_photos(tmp_path).ids) == ['a.png', 'b']

def test_files_on_several_drives_are_named_by_their_whole_paths(tmp_path, monkeypatch):
    "As on Windows, where they have no folder in common."
    files = [write(tmp_path, {f'{d}/a.png': LOSSLESS['png']})/d/'a.png' for d in 'CD']
    def none(paths): raise ValueError("Paths don't have the same drive")
    monkeypatch.setattr(os.path, 'commonpath', none)
    photos = open_photos(files)
    assert list(photos.ids) == list(map(str, files)) and photos.folder is None and [photos.path(i) for i in (0, 1)] == files
    assert all(photos.read(i) == LOSSLESS['png'] for i in (0, 1))

@pytest.mark.parametrize('name', ['x.tar', 'x.parquet'])
def test_an_archive_that_is_removed_after_it_was_opened(tmp_path, name):
    if name == 'x.tar':
        with tarfile.open(tmp_path/name, 'w') as t: t.add(write(tmp_path, {'a.png': encoded(scene())})/'a.png', 'a.png')
    else: pq.write_table(pa.table({'image': [encoded(scene())]}), tmp_path/name)
    photos = open_photos(tmp_path/name)
    (tmp_path/name).unlink()
    with pytest.raises(Unreadable): photos.read(0)

def test_a_single_image_is_a_set(tmp_path):
    photos = open_photos(write(tmp_path, {'a.png': LOSSLESS['png']})/'a.png')
    assert (list(photos.ids), photos.path(0), photos.folder, photos.read(0)) == (['a.png'], tmp_path/'a.png', tmp_path, LOSSLESS['png'])

def test_a_label_column_that_is_not_there(tmp_path):
    pq.write_table(pa.table({'image': [encoded(scene())], 'kind': ['a']}), tmp_path/'x.parquet')
    assert open_photos(tmp_path/'x.parquet', label_column='kind').classes == ['a']
    with pytest.raises(UserError, match="has no column 'sort'. There are: image, kind"): open_photos(tmp_path/'x.parquet', label_column='sort')

def test_what_cannot_be_read_in_a_data_set_for_training_is_named(tmp_path):
    photos = open_photos(write(tmp_path, {'a.png': LOSSLESS['png'], 'b.png': b'nothing'}))
    train = PhotoDataset(photos)
    np.testing.assert_array_equal(np.asarray(train[0][0]).transpose(2, 0, 1), PIXELS); assert train[0][1] == -1
    with pytest.raises(UserError, match='b.png cannot be read: it is not an image.*photos.take'): train[1]

def test_a_selection_of_other_files_is_refused(tmp_path):
    from torchvision.datasets import ImageFolder
    own = ImageFolder(str(write(tmp_path, {f'{c}/{i}.png': LOSSLESS['png'] for c in 'ab' for i in range(2)})))
    assert positions_in(own, ['a/0.png', 'a/1.png', 'b/0.png', 'b/1.png', 'b/2.gif'], np.array([1, 4])) == [1]
    with pytest.raises(UserError, match=r"1 of the 4 files .* such as 'b/1.png'"): positions_in(own, ['a/0.png', 'a/1.png', 'b/0.png'], np.array([0]))
    class Linked: samples, root = [(str(tmp_path/n), 0) for n in ('a/0.png', 'b/link.png', 'b/._0.png')], str(tmp_path)
    (tmp_path/'a').mkdir(exist_ok=True); (tmp_path/'b').mkdir(exist_ok=True); (tmp_path/'b'/'link.png').symlink_to('../a/0.png')
    with pytest.warns(UserWarning, match='2 files of the data set are links to other images, or hidden'):
        assert positions_in(Linked(), ['a/0.png'], np.array([0])) == [0]
    with pytest.raises(UserError, match='4 of the 4 files'): positions_in(own, ['x', 'y'], np.array([0]))
    assert positions_in(own, list('wxyz'), np.array([3])) == [3]       # names that mean something else, as many

@pytest.mark.parametrize('dtype', [np.complex64, 'datetime64[s]', 'U3'])
def test_pixels_that_are_no_numbers(dtype):
    with pytest.raises(Unreadable, match='it holds values of type'): decode(np.zeros((4, 4), dtype))

def test_too_little_memory_for_one_image_is_its_own_problem(monkeypatch):
    def enormous(*args, **kwargs): raise MemoryError
    monkeypatch.setattr(Image, 'open', enormous)
    with pytest.raises(Unreadable, match='it needs more memory than there is'): decode(LOSSLESS['png'])

def test_members_of_a_tar_that_are_hidden_or_too_large(tmp_path, monkeypatch):
    photos = open_photos(write_tar(tmp_path/'x.tar', {'a.png': LOSSLESS['png'], '.b.png': LOSSLESS['png'], 'c.txt': b'', 'a.json': b'{}'}))
    assert list(photos.ids) == ['a.png'] and photos.skipped == {'hidden': 1, '.txt': 1} and photos.labels is None
    monkeypatch.setattr('semdedup.photos.MAX_BYTES', 10)
    with pytest.raises(Unreadable, match=f'its {len(LOSSLESS["png"])} bytes are more than the limit of 10'): photos.read(0)
    assert photos.path(0) is None

# Labels and paths as people have them

TEN = np.random.default_rng(0).integers(0, 256, (24, 16, 16), dtype=np.uint8)
LABELS = np.arange(24) % 12

@pytest.mark.parametrize('given', [torch.tensor(LABELS), LABELS[:, None], [torch.tensor(int(v)) for v in LABELS],
                                   pd.Series(LABELS, index=range(100, 124)), LABELS.astype(float), [[int(v)] for v in LABELS], tuple(LABELS.astype(np.uint8))],
                         ids=['tensor', 'column', 'tensors', 'series', 'floats', 'lists of one', 'bytes'])
def test_labels_are_the_numbers_that_are_given(given):
    p = open_photos(TEN, labels=given)
    assert p.labels.tolist() == LABELS.tolist() and p.classes == [str(c) for c in range(12)]

@pytest.mark.parametrize('missing', [None, float('nan'), np.nan, pd.NA, pd.NaT])
def test_a_label_that_is_missing_is_none(missing):
    p = open_photos(TEN[:3], labels=[1., missing, 0.])
    assert p.labels.tolist() == [1, -1, 0] and p.classes == ['0', '1']
    assert open_photos(TEN[:3], labels=pd.Series(['b', missing, 'a'], dtype=object)).labels.tolist() == [1, -1, 0]

def test_one_hot_labels_are_refused_with_the_way_out():
    with pytest.raises(UserError, match=r'An image has 12 labels; expected one an image.*labels.argmax\(1\)'): open_photos(TEN, labels=np.eye(12)[LABELS])

def test_labels_as_keras_writes_them(tmp_path):
    np.savez(tmp_path/'k.npz', x_train=TEN, y_train=LABELS[:, None], x_test=TEN[:12], y_test=LABELS[:12])
    assert open_photos(tmp_path/'k.npz', split='train').labels.tolist() == LABELS.tolist()
    assert len(semdedup.leaks(f'{tmp_path}/k.npz:train', f'{tmp_path}/k.npz:test', eps=0., cache=False).odd) == 0

def test_a_column_of_paths_is_read_by_position(tmp_path):
    paths = [tmp_path/f'{i}.png' for i in range(4)]
    for i, p in enumerate(paths): Image.fromarray(TEN[i]).save(p)
    some = pd.DataFrame({'path': list(map(str, paths))}).iloc[[3, 1]]
    for given in some.path, some.path.to_numpy(), np.array(list(some.path)):
        p = open_photos(given)
        assert list(p.ids) == ['3.png', '1.png'] and p.read(0) == paths[3].read_bytes()
    with pytest.raises(UserError, match='A table is no list of images'): open_photos(some)
    with pytest.raises(UserError, match='begins with a path, but holds ndarray too'): open_photos([str(paths[0]), TEN[0]])
    assert len(open_photos(os.fsencode(paths[0]))) == 1

@pytest.mark.parametrize('name', ['split', 'column', 'label_column'])
def test_what_a_source_does_not_have_cannot_be_asked_for(tmp_path, name):
    Image.fromarray(TEN[0]).save(tmp_path/'a.png')
    for source in TEN, [str(tmp_path/'a.png')], *([tmp_path] if name != 'split' else []):
        with pytest.raises(UserError, match=f"{name} is 'x'.*Leave it out"): open_photos(source, **{name: 'x'})
