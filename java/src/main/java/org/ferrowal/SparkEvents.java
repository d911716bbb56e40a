package org.ferrowal;

import java.io.File;
import java.net.MalformedURLException;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/**
 * Finds Spark's classes for {@code dump --format spark}: beside our own ({@code spark-submit}), or in {@code SPARK_HOME}
 * ({@code java -jar}, which has no other class path).
 */
final class SparkEvents {
    private static final String SPARK = "org.apache.spark.streaming.util.WriteAheadLogRecordHandle";
    private static final String DECODER = "org.ferrowal.spark.DriverEvents";

    private SparkEvents() {
    }

    /** Made at the first record; the loader lives as long as the program. */
    private static final class Decoder {
        static final Function<byte[], String> IT = find();
    }

    /**
     * Lines that say what a record holds, or that it holds none of Spark's events.
     *
     * @throws IllegalStateException where Spark's classes are not found, saying what to do
     */
    static String readable(byte[] record) {
        try {
            return Decoder.IT.apply(record);
        } catch (ExceptionInInitializerError e) {
            throw e.getCause() instanceof IllegalStateException ? (IllegalStateException) e.getCause()
                : new IllegalStateException("Spark's events cannot be read: " + e.getCause(), e);
        }
    }

    private static Function<byte[], String> find() {
        ClassLoader ours = SparkEvents.class.getClassLoader();
        try {
            Class.forName(SPARK, false, ours);
            return decoder(ours);
        } catch (ClassNotFoundException | LinkageError e) {
            String home = System.getenv("SPARK_HOME");
            if (home == null || home.isEmpty()) {
                throw new IllegalStateException("Spark's classes are not here: set SPARK_HOME for java -jar, or use"
                    + " spark-submit --class org.ferrowal.Main ferrowal.jar dump --format spark DIR", e);
            }
            return decoder(loader(home));
        }
    }

    /** Our own classes once more, beside Spark's: those that extend Spark's can be loaded only there. */
    private static ClassLoader loader(String home) {
        File[] jars = new File(home, "jars").listFiles((dir, name) -> name.endsWith(".jar"));
        if (jars == null || jars.length == 0) {
            throw new IllegalStateException("SPARK_HOME=" + home + " has no jars/*.jar: it must be the directory of a Spark");
        }
        try {
            List<URL> path = new ArrayList<>();
            path.add(SparkEvents.class.getProtectionDomain().getCodeSource().getLocation().toURI().toURL());
            for (File jar : jars) {
                URI uri = jar.toURI();
                path.add(uri.toURL());
            }
            return new URLClassLoader(path.toArray(new URL[0]), ClassLoader.getPlatformClassLoader());
        } catch (URISyntaxException | MalformedURLException e) {
            throw new IllegalStateException("SPARK_HOME=" + home + " cannot be used: " + e.getMessage(), e);
        }
    }

    @SuppressWarnings("unchecked") // DriverEvents is one
    private static Function<byte[], String> decoder(ClassLoader loader) {
        try {
            return (Function<byte[], String>) Class.forName(DECODER, true, loader).getDeclaredConstructor().newInstance();
        } catch (ReflectiveOperationException | LinkageError e) {
            throw new IllegalStateException("Spark's events cannot be read: " + e, e);
        }
    }
}
