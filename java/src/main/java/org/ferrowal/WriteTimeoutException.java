package org.ferrowal;

/** A write was not durable within its bound. Whether it is durable is unknown. */
public class WriteTimeoutException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public WriteTimeoutException(String message) {
        super(message);
    }
}
