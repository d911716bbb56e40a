/** ferrowal's log for any JVM program. */
package org.ferrowal;
