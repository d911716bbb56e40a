package org.ferrowal.bench;

/** Something that keeps the benchmark from going on; the message says what, and what to do about it. */
final class BenchException extends RuntimeException {
    private static final long serialVersionUID = 1;

    BenchException(String message) {
        super(message);
    }

    BenchException(String message, Throwable cause) {
        super(message, cause);
    }
}
