//! Raw pairs in, signature or verdict out: canonical string, MD5, HMAC-SHA256, key ring.
