package org.ferrowal;

/**
 * The program {@code ferrowal} for whoever has the jar: {@code java -jar ferrowal.jar --help}. It looks at logs, checks
 * them, and saves what can be saved; see {@code docs/tool.md}.
 */
public final class Main {
    private Main() {
    }

    /**
     * Runs the program and ends the JVM: with 0 if all is well, 1 if there is damage, 2 if the command could not be carried
     * out.
     *
     * @param args the command and its flags
     */
    public static void main(String[] args) {
        int code;
        try {
            NativeLibrary.load();
            code = Native.tool(args);
        } catch (RuntimeException e) {
            System.err.println("ferrowal: " + e.getMessage());
            code = 2;
        }
        System.exit(code);
    }
}
