package org.ferrowal;

/** A failure of the log that is neither a bad argument, nor use after close, nor a refusal of the file system. */
public class LogException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public LogException(String message) {
        super(message);
    }

    /**
     * Makes one with a cause.
     *
     * @param message what happened, where, and what to do
     * @param cause why
     */
    public LogException(String message, Throwable cause) {
        super(message, cause);
    }
}
