"""A sweep that was killed or stopped goes on where it was, and repeats nothing."""
import io, os, signal, subprocess, sys, time
from dataclasses import dataclass
import pandas as pd, psutil, pytest
from typer.testing import CliRunner
from semdedup.cli import app
from semdedup.grids import KEY, keys

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='no process groups')
MAIN = [sys.executable, '-c', 'from semdedup.cli import main; main()']
SWEEP = 'sweep --dataset digits --ratio 50 --epochs 60 --seeds 6 --n_clusters 8'.split()
TRAININGS = 6 * (1 + 1 + 2 * 4 + 1) # seeds × (full + random + rank types × prune types + semdedup)

@dataclass
class Attempt:
    "What came of one process: exit code, standard error, seconds from the signal to the end, results, processes that outlived it, temporary files."
    code: int
    err: str
    seconds: float
    table: pd.DataFrame
    left: list[psutil.Process]
    temporary: set[str]

def start(args, out):
    """The command, in a process group of its own, and on one thread, so that it can be caught in the middle.
    Where the tests run in the background, a shell has told them to ignore Ctrl-C, and children inherit that: it is undone."""
    return subprocess.Popen([*MAIN, *args, '--out', out], env=os.environ | {'SEMDEDUP_THREADS': '1'}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

def temporary(out): return {p.name for p in out.rglob('*.tmp')}

def rows(out):
    "The trainings that are there, as of one moment: by its path, pandas opens a file twice, and it may be replaced in between."
    file = out/'results.parquet'
    return pd.read_parquet(io.BytesIO(file.read_bytes())) if file.exists() else pd.DataFrame()

def wait_for(happened, process):
    "Wait until `happened()`; fail if the process ends before."
    until = time.monotonic() + 120
    while not happened():
        if process.poll() is not None or time.monotonic() > until: process.kill(); pytest.fail(f'too late to stop it: {process.stderr.read()}')
        time.sleep(.02)

def sent(process, signum, happened):
    "Send a signal to the process group when `happened()`; return exit code, standard error, seconds, and what is left of its children."
    try:
        wait_for(happened, process)
        children, since = psutil.Process(process.pid).children(recursive=True), time.monotonic()
        os.killpg(process.pid, signum)
        err = process.communicate(timeout=60)[1]
        seconds = time.monotonic() - since
        alive = psutil.wait_procs(children, timeout=10)[1]
        return process.returncode, err, seconds, [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    finally:
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)

def stopped(out, signum):
    "Start the sweep, and send a signal when it has done more trainings than were there."
    before = len(rows(out))
    code, err, seconds, left = sent(start(SWEEP, out), signum, lambda: len(rows(out)) > before)
    return Attempt(code, err, seconds, rows(out), left, temporary(out))

def finished(out):
    "Run the sweep to its end, in this process, which has imported torch already."
    done = CliRunner().invoke(app, [*SWEEP, '--out', str(out)])
    return Attempt(done.exit_code, done.stderr, 0, rows(out), [], temporary(out))

# One story in four attempts: killed, stopped, finished, and once more.

@pytest.fixture(scope='module')
def out(tmp_path_factory): return tmp_path_factory.mktemp('resume')/'out'
@pytest.fixture(scope='module')
def killed(out): return stopped(out, signal.SIGKILL)
@pytest.fixture(scope='module')
def interrupted(out, killed): return stopped(out, signal.SIGINT)
@pytest.fixture(scope='module')
def complete(out, interrupted):
    (out/'.results.parquet.1234.tmp').touch() # as a process leaves it that is killed while it writes
    return finished(out)

def begins_with(table, earlier):
    "Check that earlier rows are still there, down to the seconds that they took."
    plain = lambda t: t.astype(object).where(t.notna(), None) # a column without a text comes back as None, with some texts its gaps are NaN
    pd.testing.assert_frame_equal(plain(table.head(len(earlier))), plain(earlier))

def test_killed_in_the_middle(killed):
    assert killed.code == -signal.SIGKILL and 0 < len(killed.table) < TRAININGS
    assert killed.left == [], 'the kernel goes on without its parent'

def test_ctrl_c_ends_in_a_sentence(interrupted, killed):
    assert interrupted.code == 130 and interrupted.seconds < 20, interrupted.err
    assert 'the same command goes on from there' in interrupted.err.splitlines()[-1] and 'Traceback' not in interrupted.err, interrupted.err
    assert len(killed.table) < len(interrupted.table) < TRAININGS
    begins_with(interrupted.table, killed.table)

def test_ctrl_c_leaves_nothing_behind(interrupted, killed):
    assert interrupted.left == [], 'the kernel goes on without its parent'
    assert interrupted.temporary <= killed.temporary

def test_the_rest_is_trained_and_nothing_twice(complete, interrupted, out):
    assert complete.code == 0, complete.err
    begins_with(complete.table, interrupted.table)
    assert len(complete.table) == TRAININGS == len(set(keys(complete.table))) and not complete.table.duplicated(KEY).any()
    assert (out/'index.html').exists()

def test_what_was_half_written_goes(complete):
    assert complete.temporary == set()

def test_a_finished_sweep_trains_nothing_again(complete, out):
    before = {p: p.read_bytes() for p in (out/'results.parquet', out/'summary.csv', out/'figures'/'e2_gain.csv')}
    again = finished(out)
    assert again.code == 0 and 'done before' in again.err, again.err
    assert {p: p.read_bytes() for p in before} == before

def test_ctrl_c_stops_a_run(tmp_path):
    "In the middle of its trainings, which share a pool of threads."
    run = start('run --dataset digits --epochs 100000 --seeds 30 --n_clusters 8'.split(), tmp_path/'out')
    code, err, seconds, left = sent(run, signal.SIGINT, (tmp_path/'out'/'selection.parquet').exists)
    assert (code, left) == (130, []) and seconds < 20, err
    assert err.startswith('semdedup: stopped') and err.count('\n') == 1
    assert {p.name for p in (tmp_path/'out').iterdir()} == {'config.json', 'selection.parquet'}
