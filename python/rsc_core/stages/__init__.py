"""One module a stage: read inputs, call public functions, write what was computed. No science here."""
