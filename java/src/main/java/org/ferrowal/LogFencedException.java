package org.ferrowal;

/**
 * Another writer has taken the log over: this one never writes again. Local directories, whose lock excludes other writers,
 * do not give it.
 */
public class LogFencedException extends LogException {
    private static final long serialVersionUID = 1L;

    /**
     * Makes one.
     *
     * @param message what happened, where, and what to do
     */
    public LogFencedException(String message) {
        super(message);
    }
}
