"""Bad input at the command line: exit code 2, one sentence that says what is wrong, and nothing half-written."""
import errno, json, multiprocessing, os, pickle, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest, typer
from semdedup import Selection, UserError, grids, reports
from semdedup.cli import friendly, main

# Each command is a process of its own. Where processes can be forked, it is forked from one that has imported torch already: two seconds less, seventy times.
PROCESSES = multiprocessing.get_context('forkserver' if sys.platform == 'linux' else 'spawn')
if sys.platform == 'linux': PROCESSES.set_forkserver_preload(['semdedup.cli', 'semdedup.reports'])

def child(folder, args, env, file_size):
    "What such a process does: the console script in `folder`, with its output in files beside it."
    for fd, name in (1, 'stdout'), (2, 'stderr'): os.dup2(os.open(folder.parent/name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), fd)
    os.chdir(folder); os.environ.update(env); sys.argv[:] = ['semdedup', *map(str, args)]
    if not file_size: return main()
    import resource
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, before[1]))
    try: main()
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)         # coverage has a file to write

def command(folder, *args, env=None, file_size=None):
    "Run `semdedup ARGS` in `folder`; return exit code, standard output and standard error."
    p = PROCESSES.Process(target=child, args=(folder, args, env or {}, file_size))
    p.start(); p.join(120)
    if p.is_alive(): p.kill(); pytest.fail(f'semdedup {args} is not done after two minutes')
    return p.exitcode, *[(folder.parent/name).read_text(encoding='utf-8') for name in ('stdout', 'stderr')]

def contents(folder):
    "Every folder and file below `folder`, with its bytes."
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob('*')}

def is_one_sentence(code, out, err, says):
    "Check exit code 2, and a single line on standard error that holds all of `says`."
    assert (code, out) == (2, ''), err
    assert err.startswith('semdedup: ') and err.count('\n') == 1, err
    for text in [says] if isinstance(says, str) else says: assert text in err, err

def is_refused(folder, *args, says, **kwargs):
    "Check that a command ends in one sentence and leaves `folder` as it was."
    before = contents(folder)
    is_one_sentence(*command(folder, *args, **kwargs), says)
    assert contents(folder) == before, 'something was written'

@pytest.fixture
def folder(tmp_path):
    "An empty folder to work in."
    (tmp_path/'work').mkdir()
    return tmp_path/'work'

def cases(by_id): return [pytest.param(*v, id=k) for k, v in by_id.items()]
def short(v): return v.split()[0] if v in COMMANDS else v if isinstance(v, str) and v.startswith('--') else ''

COMMANDS = RUN, SWEEP, REPORT = ['run --dataset digits --epochs 1 --n_clusters 8', 'sweep --dataset digits --epochs 1 --seeds 1',
                                 'report --dataset digits --epochs 1 --seeds 1']

# What is asked for

@pytest.mark.parametrize('start, flags, says', [
    (RUN, '--dataset fminst', ["data set 'fminst'", "Did you mean 'fmnist'?", 'fmnist-mini']),
    (RUN, '--dataset nowhere.npz', 'nowhere.npz: there is no such file'),
    (RUN, '--encoder vgg', ["encoder 'vgg'", "'vgg16'"]),
    (RUN, '--encoder vgg16 --weights lost.pth', ['lost.pth', 'no such file']),
    (RUN, '--rank_type cosim', ["rank type 'cosim'", "'cossim'"]),
    (RUN, '--prune_type divers', ["prune type 'divers'", "'diverse'"]),
    (RUN, '--regime epoch', ["regime 'epoch'", "'epochs'"]),
    (RUN, '--model cnnn', ["model 'cnnn'", "'cnn'"]),
    (RUN, '--eps .1 --rule semdup', ["rule 'semdup'", "'semdedup'"]),
    (RUN, '--eps -1', 'eps is -1'),
    *[(RUN, f'--ratio {r}', [f'ratio is {r}', 'more than 0 and at most 100']) for r in ('0', '-5', '101', 'nan')],
    (RUN, '--n_clusters 5000', ['n_clusters is 5000', '1437 images']),
    (RUN, '--n_clusters 0', 'n_clusters is 0'),
    (RUN, '--seed -1', 'seed is -1'),
    (RUN, f'--seed {10**20}', f'seed is {10**20}'),
    (RUN, '--seeds 0', 'seeds is 0'),
    (RUN, '--epochs 0', 'epochs is 0'),
    (SWEEP, '--dataset digit', ["data set 'digit'", "'digits'"]),
    (SWEEP, '--encoder pixels,vgg', ["encoder 'vgg'", "'vgg16'"]),
    (SWEEP, '--rank_type random,cosim', ["rank type 'cosim'", "'cossim'"]),
    (SWEEP, '--prune_type comon', ["prune type 'comon'", "'common'"]),
    (SWEEP, '--regime step', ["regime 'step'", "'steps'"]),
    *[(SWEEP, f'--ratio 50,{r}', 'ratio is') for r in ('0', '101', 'abc')],
    (SWEEP, '--ratio ,', 'ratio is empty'),
    (SWEEP, '--n_clusters 1400', ['n_clusters is 1400', 'training images']),
    *[(SWEEP, f'--holdout {share}', [f"--holdout is '{share}'", '10% or 0.1']) for share in ('0', '1', '10', '100%', 'x')],
    (SWEEP, '--holdout 95%', 'holdout is 0.95'),
    (RUN, '--selection ours --rank-type random', '--selection and --rank-type are both given'),
    (RUN, '--eps .1 --prune-type common', '--eps and --prune-type are both given'),
    (RUN, '--eps .1 --selection ours', '--eps and --selection are both given'),
    (RUN, '--rule semdedup', ['--rule semdedup is for near-duplicates', '--eps']),
    (RUN, '--test-share 20', ["--test-share is '20'", '10% or 0.1']),
    (SWEEP, '--encoder ,', '--encoder is empty'),
    *[(SWEEP, f'--minutes {m}', f'minutes is {m}') for m in ('-1', 'nan')],
    *[(start, '--device tpu', "device 'tpu'") for start in (RUN, SWEEP, REPORT)],
    (REPORT, 'photos', 'PATH photos and --dataset digits are both given'),
    (SWEEP, '--model lstm', ["model 'lstm'", 'mlp, cnn']),
    (REPORT, '--eps 3', 'eps is 3'),
], ids=short)
def test_a_mistake_in_a_command_is_named(folder, start, flags, says):
    is_refused(folder, *start.split(), *flags.split(), says=says)

@pytest.mark.parametrize('flags', ['--ratio abc', '--ratoi 5', '--epochs 1.5'])
def test_a_flag_that_cannot_be_read_is_named(folder, flags):
    "typer answers these, in its own words."
    code, _, err = command(folder, *RUN.split(), *flags.split())
    assert code == 2 and flags.split()[0] in err and 'Traceback' not in err and contents(folder) == {}

@pytest.mark.parametrize('name', ['run', 'sweep', 'report'])
def test_help_has_examples(folder, name):
    code, out, err = command(folder, name, '--help', env={'COLUMNS': '120'})
    assert (code, err) == (0, '') and '--dataset' in out and f'semdedup {name} --' in out

def test_the_console_script(folder):
    "What pip installs is the command that is tested here."
    script = shutil.which('semdedup', path=os.path.dirname(sys.executable))
    if not script: pytest.skip('no console script beside this Python: the package is not installed there')
    done = subprocess.run([script, *RUN.split(), '--ratio', '0'], cwd=folder, capture_output=True, text=True)
    is_one_sentence(done.returncode, done.stdout, done.stderr, 'ratio is 0')
    assert 'report' in subprocess.run([script, '--help'], capture_output=True, text=True, check=True).stdout

# Images

def arrays(**changes):
    "What an .npz holds: random images of three classes, with some of the arrays replaced."
    images = lambda n: np.random.default_rng(n).integers(1, 256, (n, 8, 8)).astype(np.uint8)
    return dict(train_images=images(60), train_labels=np.arange(60) % 3, test_images=images(20), test_labels=np.arange(20) % 3) | changes

def spoiled(value, rows):
    "Training images as floats, with `value` in some rows."
    x = arrays()['train_images'].astype(np.float32)
    x[rows, 3, 3] = value
    return x

USE = 'run --dataset my.npz --epochs 1 --n_clusters 3 --ratio 50'.split()

@pytest.mark.parametrize('changes, says', cases({
    'one class': (dict(train_labels=np.zeros(60, int)), ["class '0'", 'at least two classes']),
    'no images': (dict(train_images=np.empty((0, 8, 8), np.uint8), train_labels=np.empty(0, int)), 'training images are empty'),
    'no test images': (dict(test_images=np.empty((0, 8, 8), np.uint8), test_labels=np.empty(0, int)), 'test images are empty'),
    'no pixels': (dict(train_images=np.ones((60, 0, 8)), test_images=np.ones((20, 0, 8))), 'training images'),
    'NaN': (dict(train_images=spoiled(np.nan, [3, 7])), ['2 of 60 rows', 'rows 3, 7']),
    'infinity': (dict(train_images=spoiled(-np.inf, range(50))), ['50 of 60 rows', 'rows 0, 1, 2, 3, 4, …']),
    'NaN in test': (dict(test_images=np.full((20, 8, 8), np.nan)), ['test images', '20 of 20 rows']),
    'not bytes': (dict(train_images=spoiled(256, [0])), 'values from 1 to 256'),
    'other size': (dict(test_images=np.ones((20, 9, 9), np.uint8)), ['(1, 8, 8)', '(1, 9, 9)']),
    'other channels': (dict(test_images=np.ones((20, 8, 8, 3), np.uint8)), ['(1, 8, 8)', '(3, 8, 8)']),
    'four channels': (dict(train_images=np.ones((60, 8, 8, 4), np.uint8)), ['(60, 8, 8, 4)', '1 or 3 channels']),
    'rows of pixels': (dict(train_images=np.ones((60, 64), np.uint8)), '(60, 64)'),
    'text for images': (dict(train_images=np.full((60, 8, 8), 'x')), 'of type <U1'),
    'a black image': (dict(train_images=arrays()['train_images'] * (np.arange(60) != 5)[:, None, None].astype(np.uint8)),
                      ['1 of 60 rows are all zero', 'rows 5']),
    'text for labels': (dict(train_labels=np.array(['cat', 'dog'] * 30)), ['training labels', 'whole numbers from 0']),
    'fractions for labels': (dict(train_labels=np.arange(60) % 3 + .5), ['training labels', 'whole numbers from 0']),
    'negative label': (dict(train_labels=np.arange(60) % 3 - 1), ['training labels', '-1']),
    'giant label': (dict(train_labels=np.arange(60).astype(np.uint64) % 2 * np.uint64(2**63 + 1)), 'training labels'),
    'more classes than images': (dict(train_labels=np.arange(60) % 2 * 20_000), ['labels', '20000']),
    'too few labels': (dict(train_labels=np.arange(59) % 3), '(59,) for 60 images'),
    'too few classes': (dict(classes=np.array(['a', 'b'])), 'only 2 classes are named'),
    'classes of one name': (dict(classes=np.array(['cat', 'dog', 'cat'])), ['classes', 'cat']),
    'too few positions': (dict(train_index=np.arange(5)), 'train'),
    'text for positions': (dict(train_index=np.array(['x'] * 60)), 'train'),
}))
def test_images_that_do_not_do_are_refused(folder, changes, says):
    np.savez(folder/'my.npz', **arrays(**changes))
    is_refused(folder, *USE, says=says)

def test_images_too_small_for_the_cnn_are_refused(folder):
    np.savez(folder/'my.npz', **{k: v[:, :4, :4] if v.ndim == 3 else v for k, v in arrays().items()})
    is_refused(folder, *USE, '--model', 'cnn', says='4 × 4 pixels are too small')

def test_half_precision_is_no_mistake(folder):
    "A row of float16 pixels is finite, though its sum is not."
    np.savez(folder/'my.npz', **arrays(train_images=np.full((60, 32, 32), 200, np.float16), test_images=np.full((20, 32, 32), 200, np.float16)))
    code, _, err = command(folder, *USE, '--n_clusters', 1)
    assert code == 0, err

class Canary:
    "Unpickling it leaves a file behind."
    def __reduce__(self): return Path.touch, (Path('unpickled'),)

def compressed(path): np.savez_compressed(path, **arrays(train_images=np.tile(np.arange(64, dtype=np.uint8).reshape(8, 8), (60, 1, 1))))
def cut(share): return lambda path: (np.savez(path, **arrays()), os.truncate(path, int(path.stat().st_size * share)))
def overwritten(path):
    compressed(path)
    with open(path, 'rb+') as f: f.seek(60); f.write(b'\xff' * 40)
def one_array(path):
    with open(path, 'wb') as f: np.save(f, arrays()['train_images'])

@pytest.mark.parametrize('make, says', cases({
    'nothing': (lambda path: path.touch(), 'cannot be read'),
    'text': (lambda path: path.write_text('index,pixel\n' * 20), 'cannot be read'),
    'a folder': (Path.mkdir, 'cannot be read'),
    'cut in half': (cut(.5), 'cannot be read'),
    'cut at the end': (cut(.99), 'cannot be read'),
    'overwritten': (overwritten, 'cannot be read'),
    'an .npy': (one_array, 'my.npz'),
    'another .npz': (lambda path: np.savez(path, x=1), ['lacks train_images', 'holds x']),
    'an empty .npz': (np.savez, 'holds nothing'),
    'a pickle': (lambda path: path.write_bytes(pickle.dumps(Canary())), 'cannot be read'),
    'pickled objects': (lambda path: np.savez(path, **arrays(train_labels=np.array([Canary()] * 60))), 'plain arrays'),
    'pickled classes': (lambda path: np.savez(path, **arrays(classes=np.array([Canary()] * 3))), 'plain arrays'),
}))
def test_a_file_that_is_no_data_set_is_refused(folder, make, says):
    "And nothing in it is unpickled: the canary would leave a file."
    make(folder/'my.npz')
    is_refused(folder, *USE, says=says)

# Where to write

@pytest.mark.parametrize('start', COMMANDS, ids=short)
@pytest.mark.parametrize('out', ['file', 'file/below'])
def test_an_output_folder_that_cannot_be_made_is_refused(folder, start, out):
    (folder/'file').write_text('mine')
    is_refused(folder, *start.split(), '--out', out, says=['Cannot write', out, 'choose another folder'])

def test_a_folder_without_rights_is_refused(folder):
    if os.geteuid() == 0: where = Path('/sys/semdedup')     # root may write anywhere but here
    else: where = folder/'locked'; where.mkdir(mode=0o500)
    if not where.parent.is_dir(): pytest.skip('no folder that root cannot write to')
    is_refused(folder, *RUN.split(), '--out', where/'out', says=['Cannot write', str(where)])

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A folder `out` with the results of a run."
    folder = tmp_path_factory.mktemp('finished')/'work'
    folder.mkdir()
    code, _, err = command(folder, *RUN.split(), '--out', 'out')
    assert code == 0, err
    assert {p.name for p in (folder/'out').iterdir()} == {'config.json', 'selection.parquet', 'result.json'}
    return folder

@pytest.mark.parametrize('start, flags, says', [
    (RUN, '--ratio 30', 'another configuration'), (RUN, '--seed 1', 'another configuration'), (RUN, '--epochs 2', 'epochs 1 instead of 2'),
    (SWEEP, '', 'another configuration'), (REPORT, '', 'another configuration'),
], ids=short)
def test_a_folder_with_other_results_is_refused(finished, start, flags, says):
    is_refused(finished, *start.split(), *flags.split(), '--out', 'out', says=[says, 'Choose another --out'])

@pytest.mark.parametrize('text', ['{', '{}', '[]', '"config"', 'null', '\x00\x01'])
def test_a_folder_with_somebody_elses_config_is_refused(folder, text):
    (folder/'out').mkdir(); (folder/'out'/'config.json').write_text(text)
    is_refused(folder, *RUN.split(), '--out', 'out', says='Choose another --out')

def test_other_images_under_the_same_name_are_noticed(folder):
    "A report does not take up the results of a file that has changed since. (Without stages it claims its folder, and that is all.)"
    again = lambda: reports.make_report(grids.Config(str(folder/'my.npz'), encoders=('pixels',), n_clusters=3), folder/'out', stages=())
    np.savez(folder/'my.npz', **arrays())
    again(); again()
    np.savez(folder/'my.npz', **arrays(train_labels=np.arange(60)[::-1] % 3))
    with pytest.raises(UserError, match='another configuration.*Choose another --out'): again()

def test_results_of_another_checkout_are_kept(folder):
    "A clone has tables and no .state: without --resume they are made anew, and the old ones are still there."
    np.savez(folder/'my.npz', **arrays()); said = []
    again = lambda **more: reports.make_report(grids.Config(str(folder/'my.npz'), encoders=('pixels',), n_clusters=3), folder/'out',
                                               stages=(), say=said.append, **more)
    again(); shutil.rmtree(folder/'out'/'.state'); (folder/'out'/'results.parquet').write_text('hours')
    again(resume=True); assert (folder/'out'/'results.parquet').read_text() == 'hours' and not said
    shutil.rmtree(folder/'out'/'.state'); again()
    assert not (folder/'out'/'results.parquet').exists() and (folder/'out'/'.state'/'results.parquet').read_text() == 'hours' and '--resume' in said[0]

# Full disks

@pytest.fixture
def small_disk(tmp_path):
    "A file system with 16 kilobytes; the test is skipped where none may be mounted."
    disk = tmp_path/'disk'; disk.mkdir()
    if not shutil.which('mount') or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk], capture_output=True).returncode:
        pytest.skip('no right to mount a small file system')
    yield disk
    subprocess.run(['umount', disk], check=True)

def is_whole(out):
    "Check that what was written is whole: no temporary files, and a manifest that can be read, or none."
    names = {p.name for p in out.rglob('*') if p.is_file()} if out.exists() else set()
    assert names <= {'config.json', 'selection.parquet'}, names
    if 'config.json' in names: json.loads((out/'config.json').read_text())
    if 'selection.parquet' in names: Selection.from_parquet(out/'selection.parquet')

def test_a_full_disk_is_named(folder, small_disk):
    is_one_sentence(*command(folder, *RUN.split(), '--out', small_disk/'out'), ['Cannot write', 'disk is full', 'same command again'])
    is_whole(small_disk/'out')

def test_a_full_disk_for_the_cache_is_named(folder, small_disk):
    "The first file that fails is the one with the embeddings."
    np.savez(folder/'my.npz', **arrays())
    is_refused(folder, *USE, '--encoder', 'efficientnet-lite0', env={'SEMDEDUP_CACHE': str(small_disk)}, says=['Cannot write', 'disk is full'])
    assert [p for p in small_disk.rglob('*') if p.is_file()] == []

@pytest.mark.skipif(os.name != 'posix', reason='no limits on file sizes')
def test_a_limit_on_file_sizes_is_named(folder):
    is_one_sentence(*command(folder, *RUN.split(), '--out', 'out', file_size=8192), ['Cannot write', 'selection.parquet'])
    is_whole(folder/'out')

@pytest.mark.parametrize('error, code, says', [
    (OSError(errno.ENOSPC, 'No space left on device', 'x.csv'), 2,
     'semdedup: x.csv cannot be read or written: the disk is full: free some space, and run the same command again.\n'),
    (OSError(errno.EDQUOT, 'Quota'), 2,
     'semdedup: A file cannot be read or written: the disk quota is used up: free some space, and run the same command again.\n'),
    (KeyboardInterrupt(), 130, 'semdedup: stopped. What was finished is kept: the same command goes on from there.\n')], ids=['full', 'quota', 'Ctrl-C'])
def test_what_a_library_could_not_write_is_a_sentence(capsys, error, code, says):
    def command(): raise error
    with pytest.raises(typer.Exit) as e: friendly(command)()
    assert (e.value.exit_code, capsys.readouterr().err) == (code, says)

def test_other_errors_of_the_system_are_shown_whole():
    def command(): raise OSError(errno.EIO, 'Input/output error')
    with pytest.raises(OSError, match='Input/output error'): friendly(command)()

def test_a_question_that_is_not_answered_stops(capsys, monkeypatch):
    "Typer calls that Abort."
    def ask(**kwargs): raise typer.Abort
    monkeypatch.setattr('semdedup.cli.app', ask)
    with pytest.raises(SystemExit) as e: main()
    assert (e.value.code, capsys.readouterr().err) == (130, 'semdedup: stopped.\n')

@pytest.mark.parametrize('start', COMMANDS, ids=short)
def test_a_folder_of_other_files_is_left_alone(folder, start):
    (folder/'mine').mkdir(); (folder/'mine'/'result.json').write_text('mine')
    code, _, err = command(folder, *start.split(), '--out', 'mine')
    assert code == 2 and "mine holds other files, such as 'result.json'. Choose another --out." in err
    assert [p.name for p in (folder/'mine').iterdir()] == ['result.json'] and (folder/'mine'/'result.json').read_text() == 'mine'
