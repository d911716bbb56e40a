package org.ferrowal.demo;

/** Something that keeps the demo from going on; the message says what, and what to do or where to look. */
final class DemoException extends RuntimeException {
    private static final long serialVersionUID = 1;

    DemoException(String message) {
        super(message);
    }

    DemoException(String message, Throwable cause) {
        super(message, cause);
    }
}
