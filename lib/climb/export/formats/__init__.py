"""One module per trainer; `climb.export.format` says what a format is."""
