"""Fakes and contract checks for plug-ins, ours and yours."""
