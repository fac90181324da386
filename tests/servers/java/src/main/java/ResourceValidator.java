import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.Map;
import java.util.TreeMap;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/**
 * HL7's own instance validator, R4: one JSON resource on each line in, one JSON line with the issues
 * of that resource out. https://hapifhir.io/hapi-fhir/docs/validation/instance_validator.html
 *
 * <p>Terminology is what R4 itself publishes. A code system that is published elsewhere (SNOMED CT,
 * LOINC) is a warning; a wrong code of R4's own is an error.
 */
public final class ResourceValidator {
    public static void main(String[] arguments) throws Exception {
        var answers = new PrintStream(System.out, true, "UTF-8");
        System.setOut(System.err); // a library that prints must not be taken for an answer
        var validator = validator(FhirContext.forR4());
        var json = new Gson();
        var lines = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            var found = validator.validateWithResult(line).getMessages();
            answers.println(json.toJson(found.stream().map(ResourceValidator::issue).toList()));
        }
    }

    private static FhirValidator validator(FhirContext fhir) {
        var elsewhere = new UnknownCodeSystemWarningValidationSupport(fhir);
        elsewhere.setNonExistentCodeSystemSeverity(IssueSeverity.WARNING);
        var published =
                new ValidationSupportChain(
                        new DefaultProfileValidationSupport(fhir),
                        new CommonCodeSystemsTerminologyService(fhir),
                        new InMemoryTerminologyServerValidationSupport(fhir),
                        new SnapshotGeneratingValidationSupport(fhir),
                        elsewhere);
        return fhir.newValidator().registerValidatorModule(new FhirInstanceValidator(published));
    }

    private static Map<String, String> issue(SingleValidationMessage found) {
        return new TreeMap<>(
                Map.of(
                        "severity", found.getSeverity().getCode(),
                        "location", String.valueOf(found.getLocationString()),
                        "message", String.valueOf(found.getMessage())));
    }
}
