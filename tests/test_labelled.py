"""Labelled photographs that cannot be trained on, and a cache that is damaged."""
import numpy as np, pytest
from PIL import Image
from semdedup import UserError, open_photos
from semdedup.core import cache_dir
from semdedup.labelled import from_photos, load_data

def make(folder, names, broken=()):
    "Small pictures, some of which cannot be read."
    rng = np.random.default_rng(0)
    for name in names:
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        if name in broken: (folder/name).write_bytes(b'\x89PNG\r\n\x1a\n')
        else: Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(folder/name)
    return folder

CATS, DOGS = [f'cats/{i}.png' for i in range(5)], [f'dogs/{i}.png' for i in range(5)]
SPLIT = [f'{s}/{n}' for s in ('train', 'test') for n in (CATS[0], CATS[1], DOGS[0], DOGS[1])]
REFUSED = {'no labels': (CATS[:3], [], {}, 'has no labels. Put the images of each class into a folder'),
           'nothing can be read': ([*CATS, *DOGS], [*CATS, *DOGS], {}, 'None of the 10 images .* 10 cannot be read, 0 have no label'),
           'one class is left': ([*CATS, *DOGS], DOGS, {}, "all images that can be used are of class 'cats'"),
           'no test image is left': (SPLIT, SPLIT[4:], {}, '4 images for training and 0 for testing'),
           'no share': ([*CATS, *DOGS], [], dict(test_share=0), 'test_share is 0'), 'no size': ([*CATS, *DOGS], [], dict(size=0), 'size is 0')}

@pytest.mark.parametrize('names, broken, settings, says', REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_on_is_said(tmp_path, names, broken, settings, says):
    with pytest.raises(UserError, match=says): load_data(make(tmp_path/'photos', names, broken), **settings)

def test_images_without_a_label_are_left_out_and_counted(tmp_path):
    images = from_photos(open_photos(make(tmp_path, [*CATS, *DOGS], [CATS[0]]), labels=[0] * 5 + [1] * 4 + [None]), size=8, test_share=.4)
    assert len(images.train) + len(images.test) == 8 and 'left out: 1 cannot be read, 1 without label' in images.source

@pytest.mark.parametrize('damage', [lambda f: f.write_bytes(b''), lambda f: f.write_bytes(f.read_bytes()[:-30]),
                                    lambda f: np.savez(f, train_images=np.zeros((2, 8, 8), np.uint8))], ids=['empty', 'cut', 'other content'])
def test_decoded_squares_are_kept_and_damaged_ones_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv('SEMDEDUP_CACHE', str(tmp_path/'cache'))
    folder = make(tmp_path/'photos', [*CATS, *DOGS])
    first = load_data(folder, size=8)
    [file] = (cache_dir()/'squares').glob('*.npz')
    with monkeypatch.context() as m:
        m.setattr('semdedup.labelled.decode', None)                   # what is kept is not decoded
        assert load_data(folder, size=8).digest == first.digest
    damage(file)
    again = load_data(folder, size=8)
    assert again.digest == first.digest and again.source == first.source
