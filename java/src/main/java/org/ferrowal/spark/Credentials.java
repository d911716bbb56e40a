package org.ferrowal.spark;

import java.io.IOException;
import java.util.Arrays;
import org.apache.hadoop.conf.Configuration;
import org.apache.spark.SparkConf;
import scala.Tuple2;

/** Keys out of Hadoop's credential providers. A class of its own, so that Hadoop is loaded only where one is named. */
final class Credentials {
    private static final String HADOOP = "spark.hadoop.";

    private Credentials() {
    }

    /**
     * The key of an alias, as {@link org.ferrowal.LogOptions#encryption} takes it: a secret.
     *
     * @throws IllegalArgumentException naming the alias, where there is no such credential or it is no key
     */
    static String key(SparkConf conf, String name, String alias) {
        Configuration hadoop = new Configuration();
        for (Tuple2<String, String> entry : conf.getAllWithPrefix(HADOOP)) {
            hadoop.set(entry._1(), entry._2());
        }
        char[] secret;
        try {
            secret = hadoop.getPassword(alias);
        } catch (IOException e) {
            throw new IllegalArgumentException(name + "=credential:" + alias + ": the credential providers cannot be read ("
                + e.getMessage() + ")", e);
        }
        if (secret == null) {
            throw new IllegalArgumentException(name + "=credential:" + alias + ": there is no such credential; set"
                + " spark.hadoop.hadoop.security.credential.provider.path to the provider that has it");
        }
        String text = new String(secret).trim();
        Arrays.fill(secret, ' ');
        if (!text.matches("[0-9a-fA-F]{64}")) {
            throw new IllegalArgumentException(name + "=credential:" + alias + ": the credential must be 64 hex digits");
        }
        return "hex:" + text;
    }
}
