package org.ferrowal;

/** Memory for a record did not come in time. Nothing was written. */
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
