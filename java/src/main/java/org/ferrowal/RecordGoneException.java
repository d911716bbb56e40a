package org.ferrowal;

/** The record was cleaned: a durable low-water mark proves it. */
public class RecordGoneException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public RecordGoneException(String message) {
        super(message);
    }
}
