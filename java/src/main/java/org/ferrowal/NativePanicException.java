package org.ferrowal;

/** A defect in ferrowal was caught. The log takes no more writes until it is opened again, since its state is unknown. */
public class NativePanicException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public NativePanicException(String message) {
        super(message);
    }
}
