"""Content-addressed results, their manifests, and the certificates that gates write."""
