"""Networks: which source acts on which target gene, and how strongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core import rng
from rsc_core.errors import InvalidInput

COLUMNS = ("source", "target", "weight")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def read_network(path) -> pd.DataFrame:
    """Read a network from a file.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv`` or ``.txt`` (tabs), also compressed (``.gz``), or ``.parquet`` (needs pyarrow), with the columns
        ``source`` and ``target``, and ``weight`` where edges have one; other columns are passed over. Or ``.gmt``, as MSigDB
        gives sets: a line for each, its name, a description (passed over) and the targets, separated by tabs.

    Returns
    -------
    DataFrame with columns source, target (text) and weight (float64, 1 where the file has none), an edge a row.

    Raises
    ------
    InvalidInput
        For a format, a column, a name or a weight that is missing, a weight that is no finite number, an edge that comes
        twice. Rows are lines of the file; the header is line 1 (of parquet, the first row is row 1).
    """
    path = Path(path)
    suffix = next((s for s in reversed(path.suffixes) if s.lower() not in (".gz", ".bz2", ".xz", ".zip")), "").lower()
    if suffix == ".gmt":
        return _read_gmt(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix not in SEPARATORS:
        names = ", ".join([*SEPARATORS, ".gmt", ".parquet"])
        raise InvalidInput(f"{path.name}: not a known format of networks.", f"Give a file named {names}.")
    remedy = "Give a table with the columns source, target, weight."
    try:
        table = pd.read_csv(path, sep=SEPARATORS[suffix], dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InvalidInput(f"{path.name}: cannot be read ({str(error).strip()}).", remedy) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise InvalidInput(f"{path.name}: its rows have more fields than its header has names.", remedy)
    table.index = table.index + 2
    return validated(table, path.name, "line")


def _read_gmt(path) -> pd.DataFrame:
    import gzip

    remedy = "Give a line for each set: its name, a description and its targets, separated by tabs."
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name}: cannot be read ({str(error).strip()}).", remedy) from error
    rows, numbers = [], []
    for number, line in enumerate(lines, 1):
        name, *fields = line.split("\t")
        targets = [target for target in fields[1:] if target.strip()]
        if line.strip() and not targets:
            raise InvalidInput(f"{path.name}: line {number}: the set {name!r} has no targets.", remedy)
        rows += [(name, target) for target in targets]
        numbers += [number] * len(targets)
    return validated(pd.DataFrame(rows, index=numbers, columns=list(COLUMNS[:2]), dtype=object), path.name, "line")


def _read_parquet(path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise InvalidInput(f"{path.name}: pyarrow, which reads parquet, is not installed.", "Give the network as .csv or .tsv.") from error
    except Exception as error:  # pyarrow has errors of its own
        raise InvalidInput(f"{path.name}: cannot be read ({str(error).strip()}).", "Give a table with source, target, weight.") from error
    table.index = range(1, len(table) + 1)
    return validated(table, path.name)


def shuffle_net(net, *, target=True, weight=True, seed=42) -> pd.DataFrame:
    """A network of the same shape without meaning, to see what scores chance gives.

    Parameters
    ----------
    net
        DataFrame with source, target and weight (1 where the column is missing).
    target
        Give the targets' names to one another: sources keep their numbers of targets and the overlaps between them.
    weight
        Give the edges' weights to one another.
    seed
        Any integer; 0 is a seed like any other.

    Returns
    -------
    DataFrame with source, target, weight; edges in the order of ``net``.

    Raises
    ------
    InvalidInput
        Where the network is no network.
    """
    net = validated(net)
    if target:
        names = np.sort(net["target"].unique())
        other = names[rng.permutation(seed, "network", names.size, 0)]
        net["target"] = other[np.searchsorted(names, net["target"].to_numpy())]
    if weight:
        net["weight"] = net["weight"].to_numpy()[rng.permutation(seed ^ 1 << 32, "network", len(net), 1)]
    return net


def validated(net, name="net", row="row") -> pd.DataFrame:
    """A network with the three columns in their types; raises InvalidInput as :func:`read_network`.

    Parameters
    ----------
    net
        DataFrame; its index says which row an error is in.
    name, row
        What the network and a row are called in errors.
    """
    missing = [column for column in COLUMNS[:2] if column not in net]
    if missing:
        raise InvalidInput(
            f"{name}: no column {' and '.join(missing)}; it has {', '.join(map(str, net.columns))}.",
            "Name the regulators source, the genes target and the weights weight.",
        )
    ends = {column: net[column].astype(object).where(net[column].notna(), "").astype(str) for column in COLUMNS[:2]}
    for column, names in ends.items():
        _refuse(names.str.strip() == "", lambda at, column=column: f"{name}: {row} {at}: no {column}.", "Fill it in, or remove the row.")
    if "weight" in net:
        weight = pd.to_numeric(net["weight"], errors="coerce").astype(np.float64)
        wrong = ~np.isfinite(weight)
        _refuse(wrong, lambda at: f"{name}: {row} {at}: weight {net['weight'][at]!r} is no number.", "Correct it, or remove the row.")
    else:
        weight = 1.0
    net = pd.DataFrame({**ends, "weight": weight}, index=net.index)
    repeated = net.duplicated(["source", "target"])
    edge = " -> ".join(net.loc[repeated, list(COLUMNS[:2])].iloc[0]) if repeated.any() else ""
    _refuse(
        repeated,
        lambda at: f"{name}: {row} {at}: the edge {edge} came before ({repeated.sum()} such rows).",
        "Keep one row for each source and target, for example with drop_duplicates(['source', 'target']).",
    )
    if net.empty:
        raise InvalidInput(f"{name}: it has no edges.", "Give a network with at least one source and target.")
    return net.reset_index(drop=True)


def _refuse(wrong, cause, remedy) -> None:
    """Raise InvalidInput about the first row that is marked."""
    if wrong.any():
        raise InvalidInput(cause(wrong.index[np.argmax(wrong.to_numpy())]), remedy)


def align(net, var_names, tmin=5):
    """The part of a network whose targets are among the genes, as a matrix.

    Parameters
    ----------
    net
        DataFrame with source, target and weight (1 where the column is missing).
    var_names
        Names of the genes, (genes,).
    tmin
        Sources with fewer targets among the genes are left out.

    Returns
    -------
    sources : list of str, in alphabetical order
    weights : CSR float64 (genes, sources)

    Raises
    ------
    InvalidInput
        When the network is no network, when it shares no gene with the data, or no source has enough of them.
    """
    net = validated(net)
    gene = pd.Index(var_names).get_indexer(net["target"])
    targets = net["target"]
    if (gene < 0).all():
        raise InvalidInput(*_no_overlap(targets, var_names))
    net, gene = net[gene >= 0], gene[gene >= 0]
    n_targets = net["source"].value_counts()
    sources = sorted(n_targets.index[n_targets >= tmin])
    if not sources:
        cause = (
            f"No source of the network has {tmin} targets among the {len(var_names)} genes; "
            f"{n_targets.index[0]} has the most, {n_targets.iloc[0]}"
        )
        raise InvalidInput(*_of_organisms(cause, targets, var_names, "Lower tmin, or use a network made for these genes."))
    source = pd.Index(sources).get_indexer(net["source"])
    weights = (net["weight"].to_numpy()[source >= 0], (gene[source >= 0], source[source >= 0]))
    return sources, sp.csr_matrix(weights, shape=(len(var_names), len(sources)))


def _no_overlap(targets, var_names) -> tuple[str, str]:
    """Cause and remedy where no target is among the genes."""
    examples = f"network: {', '.join(targets.unique()[:3])}; data: {', '.join(map(str, var_names[:3]))}"
    cause = f"None of the network's {targets.nunique()} targets is among the {len(var_names)} genes ({examples})"
    remedy = "Use a network whose targets are named as the genes of the data, and of the same organism."
    if sum(str(name).startswith("ENS") for name in var_names) > len(var_names) / 2:
        remedy = "The genes are named by Ensembl numbers: name them by the symbols that the network uses."
    return _of_organisms(cause, targets, var_names, remedy)


def _of_organisms(cause, targets, var_names, remedy) -> tuple[str, str]:
    """Cause and remedy, which speak of organisms where most of the names that fit do so but for upper and lower case."""
    own, genes = set(targets), {str(name) for name in var_names}
    either = {name.upper() for name in own} & {name.upper() for name in genes}
    n_more = len(either) - len(own & genes)
    if n_more <= len(own & genes):
        return f"{cause}.", remedy
    example = min(either - {name.upper() for name in own & genes})
    pair = [min(name for name in names if name.upper() == example) for names in (own, genes)]
    return (
        f"{cause}; {n_more} are the same but for upper and lower case ({pair[0]}, {pair[1]}).",
        "Network and data seem to be of different organisms (human symbols look like TP53, mouse symbols like Trp53): "
        "use the network of the data's organism.",
    )
