"""What a platform supports, asked on the platform: documentation does not say everything."""
