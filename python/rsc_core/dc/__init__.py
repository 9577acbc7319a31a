"""Activity of regulators and pathways: decoupler's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "aucell": "_sets",
        "consensus": "_consensus",
        "gsea": "_walks",
        "gsva": "_walks",
        "get_pseudobulk": "_pseudobulk",
        "mlm": "_linear",
        "ora": "_sets",
        "rank_sources_groups": "_rank_sources",
        "read_network": "_net",
        "run_aucell": "_sets",
        "run_consensus": "_consensus",
        "run_gsea": "_walks",
        "run_gsva": "_walks",
        "run_mlm": "_linear",
        "run_ora": "_sets",
        "run_ulm": "_linear",
        "run_viper": "_viper",
        "run_waggr": "_aggregate",
        "run_wmean": "_aggregate",
        "run_wsum": "_aggregate",
        "run_zscore": "_zscore",
        "shuffle_net": "_net",
        "ulm": "_linear",
        "viper": "_viper",
        "waggr": "_aggregate",
        "wmean": "_aggregate",
        "wsum": "_aggregate",
        "zscore": "_zscore",
    },
)
