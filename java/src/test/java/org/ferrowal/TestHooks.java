package org.ferrowal;

import java.nio.file.Path;

/** The native hooks of {@code src/jni/hooks.rs}, which only the tests' library has. */
final class TestHooks {
    private TestHooks() {
    }

    static native void panicInLog(long id, boolean formatted);

    static native void violateJni();

    /** Breaks a rule of JNI, for the build to see that its search finds the JVM's remark. */
    public static void main(String[] args) {
        try (Log log = Log.open(LogOptions.in(Path.of("/nowhere"), LogOptions.Role.RECEIVERS))) {
            System.out.println(log);
            violateJni();
        } catch (IllegalStateException e) {
            System.out.println("as planted: " + e.getMessage());
        }
    }
}
