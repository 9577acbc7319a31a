// The result in the layout of the package spatialdata, which no other stage needs.
process SPATIALDATA {
    tag "all samples"
    label 'process_low'

    input:
    path adata
    path library

    output:
    path 'spatialdata.zarr', emit: spatialdata
    path 'versions.yml', topic: 'versions'

    // spatialdata needs Dask and xarray, which the other tasks leave out.
    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    unset RSC_CORE_WITHOUT
    spatialdata_zarr.py \\
        --adata ${adata} \\
        --output spatialdata.zarr
    versions.py ${task.process.tokenize(':').last()} spatialdata.zarr.run.json > versions.yml
    """

    stub:
    """
    mkdir spatialdata.zarr
    touch spatialdata.zarr/zarr.json
    echo '{"stage": "spatialdata", "versions": {"stub": "0"}}' > spatialdata.zarr.run.json
    versions.py ${task.process.tokenize(':').last()} spatialdata.zarr.run.json > versions.yml
    """
}
