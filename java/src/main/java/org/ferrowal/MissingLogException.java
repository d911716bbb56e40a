package org.ferrowal;

/** A directory or segment is not there, and nothing proves that it was cleaned. */
public class MissingLogException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public MissingLogException(String message) {
        super(message);
    }
}
