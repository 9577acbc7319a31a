package nextflow.script.control

import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.ErrorCollector

/**
 * Cure for `nextflow lint` of 25.04.4: Groovy's collector returns null where there are no errors (or no warnings), and lint
 * fails on the null. This class takes the place of the one in nf-lang 25.04.0 (tools/nextflow puts it before the jars, for
 * lint alone) and returns empty lists. 25.04.5 has this cure built in.
 */
class LazyErrorCollector extends ErrorCollector {

    LazyErrorCollector(CompilerConfiguration configuration) {
        super(configuration)
    }

    @Override
    List getErrors() {
        return super.getErrors() ?: []
    }

    @Override
    List getWarnings() {
        return super.getWarnings() ?: []
    }

    @Override
    protected void failIfErrors() {
    }
}
