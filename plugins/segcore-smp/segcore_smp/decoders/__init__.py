"""Decoders and models, one package for each architecture."""
