"""Embeddings in files: tables of every shape, several batches, and what is refused."""
import tracemalloc
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest
from semdedup import UserError, deduplicate, open_vectors

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
LISTS = pa.list_(pa.float32())

def table(**columns): return pa.table({k: pa.array(v.tolist(), LISTS) if getattr(v, 'ndim', 1) == 2 else v for k, v in columns.items()})

REFUSED = {
    'no such column': (table(a=X, b=X), 'c', "has no column 'c'. There are: a, b"),
    'which of two': (table(a=X, b=X), None, r'several columns of vectors \(a, b\).*column='),
    'words': (table(name=['x'] * 3), None, 'no column of vectors, and no columns of floating-point numbers. There are: name'),
    'no rows': (table(x=X[:0]), 'x', 'has no rows'),
    'lengths differ': (pa.table({'x': pa.array([[1., 2.], [1.]], LISTS)}), None, 'lengths from 1 to 2; they must agree'),
    'nothing in them': (pa.table({'x': pa.array([[], []], LISTS)}), None, 'lengths from 0 to 0'),
    'nothing but null': (pa.table({'x': pa.array([None, None], LISTS)}), None, 'are null')}

@pytest.mark.parametrize('content, column, says', REFUSED.values(), ids=REFUSED)
def test_tables_that_hold_no_matrix_are_refused(tmp_path, content, column, says):
    pq.write_table(content, tmp_path/'x.parquet')
    with pytest.raises(UserError, match=says): open_vectors(tmp_path/'x.parquet', column)

def write_batches(path, parts):
    "An Arrow file of several batches."
    batches = [pa.record_batch({'x': pa.array(p.tolist(), LISTS), 'id': [f'{len(p)}-{i}' for i in range(len(p))]}) for p in parts]
    with pa.ipc.new_file(path, batches[0].schema) as f:
        for b in batches: f.write_batch(b)

def test_batches_become_one_matrix(tmp_path):
    write_batches(tmp_path/'x.arrow', [X[:25], X[25:]])
    v = open_vectors(tmp_path/'x.arrow')
    np.testing.assert_array_equal(v.take(slice(None)), X)
    assert v.ids.tolist() == [f'25-{i}' for i in range(25)] + [f'15-{i}' for i in range(15)]

def test_batches_of_different_widths_are_named(tmp_path):
    write_batches(tmp_path/'x.arrow', [X[:25], X[25:, :3]])
    with pytest.raises(UserError, match='the vectors have 4 and, from row 25 on, 3 numbers'): open_vectors(tmp_path/'x.arrow')

def says_more(path):
    "Change the number of rows in a Parquet file's own description, and nothing else."
    whole = path.read_bytes()
    for at in (i for i in range(len(whole) - 1) if whole[i:i + 2] == b'\x16\x50'): # a number of 64 bits, and 40
        path.write_bytes(whole[:at + 1] + b'\x52' + whole[at + 2:])
        if (f := pq.ParquetFile(path)).metadata.num_rows == 41 and f.metadata.row_group(0).num_rows == 40: return

def test_a_table_that_holds_fewer_rows_than_it_says(tmp_path):
    pq.write_table(table(x=X), tmp_path/'x.parquet')
    says_more(tmp_path/'x.parquet')
    with pytest.raises(UserError, match='says that it has 41 rows, and holds 40: it is damaged'): open_vectors(tmp_path/'x.parquet')

@pytest.mark.parametrize('files, says', [([], 'holds no files of embeddings'), (['notes.txt', '.hidden.npy'], 'holds no files of embeddings'),
                                         (['a.npy', 'b.parquet'], r'different kinds \(.npy, .parquet\)')], ids=str)
def test_folders_without_shards_of_one_kind(tmp_path, files, says):
    for f in files: (tmp_path/f).touch()
    with pytest.raises(UserError, match=says): open_vectors(tmp_path)

def test_an_unknown_kind_of_file(tmp_path):
    (tmp_path/'x.csv').write_text('1,2')
    with pytest.raises(UserError, match='x.csv: unknown kind of file. Known are .npy, .parquet'): open_vectors(tmp_path/'x.csv')

def test_a_table_is_unpacked_once(tmp_path, monkeypatch):
    "What lies in the scratch folder is found again, as long as the table is the same."
    pq.write_table(table(x=X, id=[f'i{i}' for i in range(40)]), tmp_path/'x.parquet')
    first = open_vectors(tmp_path/'x.parquet', scratch=tmp_path/'scratch')
    with monkeypatch.context() as m:
        m.setattr('semdedup.vectors.to_npy', None)
        again = open_vectors(tmp_path/'x.parquet', scratch=tmp_path/'scratch')
    np.testing.assert_array_equal(again.take(slice(None)), X); assert again.ids.tolist() == first.ids.tolist() == [f'i{i}' for i in range(40)]
    pq.write_table(table(x=X[::-1]), tmp_path/'x.parquet')
    new = open_vectors(tmp_path/'x.parquet', scratch=tmp_path/'scratch')
    np.testing.assert_array_equal(new.take(slice(None)), X[::-1]); assert new.ids is None

def test_how_much_there_is():
    assert [repr(open_vectors(x)) for x in (X, [X, X[:7]])] == ['Vectors(40 × 4, float32, 1 part)', 'Vectors(47 × 4, float32, 2 parts)']

@pytest.mark.parametrize('scale', [1e-200, 1e200])
def test_rows_of_any_length_are_clustered_by_direction(scale):
    "Their squares leave the range of float64."
    x = np.r_[X, X[:10]].astype(np.float64)
    want = deduplicate(x, eps=1e-6, keep='first', n_clusters=3)
    got = deduplicate(x * scale, eps=1e-6, keep='first', n_clusters=3)
    assert want.keep.tolist() == got.keep.tolist() == list(range(40)) and got.table.cluster.tolist() == want.table.cluster.tolist()

@pytest.mark.parametrize('kind', [pa.list_(pa.float32()), pa.list_(pa.float32(), 4)], ids=['any length', 'one length'])
def test_batches_of_nothing_but_nulls(tmp_path, kind):
    "Arrow files with small batches, as Hugging Face writes them, may begin with one."
    rows = [None, None, [1., 0, 0, 0], [0., 1, 0, 0], None, None]
    with pa.OSFile(str(tmp_path/'x.arrow'), 'wb') as f, pa.ipc.new_file(f, pa.schema([('v', kind)])) as w:
        for i in range(0, 6, 2): w.write_batch(pa.record_batch([pa.array(rows[i:i + 2], kind)], names=['v']))
    found = deduplicate(tmp_path/'x.arrow', on_invalid='drop', n_clusters=1)
    assert len(found) == 6 and found.keep.tolist() == [2, 3]

def test_a_file_of_nothing_but_nulls_is_refused(tmp_path):
    pq.write_table(pa.table({'v': pa.array([None, None], pa.list_(pa.float32()))}), tmp_path/'x.parquet')
    with pytest.raises(UserError, match='null'): open_vectors(tmp_path/'x.parquet')

@pytest.mark.parametrize('ending', ['.npy', '.ids.parquet'])
def test_a_damaged_copy_of_a_table_is_made_again(tmp_path, ending):
    pq.write_table(pa.table({'id': ['a', 'b'], 'v': pa.array([[1., 0], [0., 1]], pa.list_(pa.float64()))}), tmp_path/'x.parquet')
    read = lambda: open_vectors(tmp_path/'x.parquet', None, tmp_path/'copies')
    (tmp_path/'copies').mkdir(); assert list(read().ids) == ['a', 'b']
    copy, = (f for f in (tmp_path/'copies').iterdir() if f.name.endswith(ending))
    copy.write_bytes(copy.read_bytes()[:20])
    assert list(read().ids) == ['a', 'b'] and np.array_equal(read().take(slice(None)), np.eye(2))

def test_what_is_masked_is_missing():
    masked = np.ma.masked_array(X, mask=np.zeros(X.shape, bool))
    assert deduplicate(masked).hash == deduplicate(X).hash
    masked[3] = np.ma.masked
    with pytest.raises(UserError, match='1 of 40 rows hold NaN'): deduplicate(masked)
    assert len(deduplicate(np.ma.masked_array(np.arange(160).reshape(40, 4), mask=masked.mask), on_invalid='drop').keep) < 40

def test_a_path_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path)); monkeypatch.setenv('USERPROFILE', str(tmp_path))
    np.save(tmp_path/'a.npy', X)
    for given in '~/a.npy', ['~/a.npy']: assert len(open_vectors(given)) == 40

def test_a_column_called_id_is_no_dimension(tmp_path):
    pq.write_table(pa.table({'id': [5., 6., 7.], 'a': [3., 4., 1.], 'b': [1., 2., 8.]}), tmp_path/'x.parquet')
    with pytest.warns(UserWarning, match=r'No column of vectors: the 2 columns of floating-point numbers \(a, b\) are taken together'):
        v = open_vectors(tmp_path/'x.parquet')
    assert v.shape == (3, 2) and v.ids.tolist() == ['5.0', '6.0', '7.0']
    with pytest.raises(UserError, match='only one column of floating-point numbers, a: too little'): open_vectors(tmp_path/'x.parquet', id_column='b')

def test_names_come_from_the_column_that_is_named(tmp_path):
    pq.write_table(table(x=X, id=[f'i{i}' for i in range(40)], url=[f'u{i}' for i in range(40)], some=['a', None] * 20), tmp_path/'x.parquet')
    names = lambda **how: deduplicate(tmp_path/'x.parquet', **how).table['id'].tolist()[:2]
    assert names() == ['i0', 'i1'] and names(id_column='url') == ['u0', 'u1'] and names(ids=range(40)) == ['0', '1']
    with pytest.raises(UserError, match="has no column 'uri'. There are: x, id, url, some"): names(id_column='uri')
    with pytest.raises(UserError, match='ids: 20 of 40 are missing'): names(id_column='some')
    with pytest.raises(UserError, match="id_column is 'url'; give one of them"): names(id_column='url', ids=range(40))
    with pytest.raises(UserError, match='arrays and .npy files have no columns'): deduplicate(X, id_column='url')

def test_names_take_the_room_of_their_letters(tmp_path):
    "One long name must not make all others as long."
    pq.write_table(table(x=np.tile(X, (500, 1)), id=[*map(str, range(19_999)), 'x' * 100_000]), tmp_path/'x.parquet')
    tracemalloc.start()
    ids = open_vectors(tmp_path/'x.parquet').ids
    assert tracemalloc.get_traced_memory()[1] < 50e6 and len(ids[-1]) == 100_000
    tracemalloc.stop()

def test_folders_inside_a_folder_are_named(tmp_path):
    for i in range(7): (tmp_path/f'emb_{i}').mkdir()
    with pytest.raises(UserError, match='not looked into: name one of emb_0, emb_1, emb_2, emb_3, emb_4, ….'): open_vectors(tmp_path)

@pytest.mark.parametrize('ids', [[None] * 40, [*map(str, range(39)), float('nan')]])
def test_each_item_has_a_name_or_none_has(ids):
    with pytest.raises(UserError, match='are missing. Give each item its own'): deduplicate(X, ids=np.array(ids, object))
