package org.ferrowal;

/**
 * Records are encrypted with a key that was not given. Nothing is damaged: with the key they are read. No recovery policy
 * passes over it. The message names the key by its id.
 */
public class MissingKeyException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public MissingKeyException(String message) {
        super(message);
    }
}
