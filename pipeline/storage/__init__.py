"""Objects and tables on a local directory or in S3, through one code path."""
