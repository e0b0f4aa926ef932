"""Test doubles and contract checks for plug-ins, built-in and external."""
