package org.ferrowal.bench;

/** Something that keeps the benchmark from going on; the message says what, and what to do about it. */
public final class BenchException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** With what to tell the user. */
    public BenchException(String message) {
        super(message);
    }

    /** With what to tell the user, and what led to it. */
    public BenchException(String message, Throwable cause) {
        super(message, cause);
    }

    /** What lies at the bottom of a failure, on one line: Spark and its like wrap what happened several times. */
    static String reason(Throwable why) {
        Throwable last = why;
        while (last.getCause() != null) {
            last = last.getCause();
        }
        return String.valueOf(last.getMessage() == null ? last : last.getMessage()).lines().findFirst().orElse("");
    }
}
