package org.ferrowal;

/** The location is of another log: the directory may not be shared with, or mounted on, this machine. */
public class ForeignLogException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public ForeignLogException(String message) {
        super(message);
    }
}
