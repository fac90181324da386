import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.config.HapiJpaConfig;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.subscription.submit.config.SubscriptionSubmitterConfig;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.HardcodedServerAddressStrategy;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import jakarta.persistence.EntityManagerFactory;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.Properties;
import javax.sql.DataSource;
import org.apache.commons.dbcp2.BasicDataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.Primary;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;

/**
 * A HAPI FHIR JPA server (R4, H2 in a folder) on loopback; the parts that HAPI's own starter project
 * puts together. https://hapifhir.io/hapi-fhir/docs/server_jpa/get_started.html
 *
 * <p>Arguments: port, folder of the database, and whether references must resolve (true, false).
 */
public final class HapiServer {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        System.setProperty("database", Path.of(arguments[1]).toAbsolutePath().toString());
        System.setProperty("references", arguments[2]);
        var parts = new AnnotationConfigApplicationContext(Parts.class);
        var base = "http://127.0.0.1:" + port + "/fhir";
        var server = new Server(new InetSocketAddress("127.0.0.1", port));
        var paths = new ServletContextHandler("/");
        paths.addServlet(new ServletHolder(restful(parts, base)), "/fhir/*");
        server.setHandler(paths);
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(server, parts)));
        // Whoever started it holds the other end: without them it does not stay behind.
        while (System.in.read() >= 0) {}
        System.exit(0);
    }

    private static void stop(Server server, AnnotationConfigApplicationContext parts) {
        try {
            server.stop();
        } catch (Exception fault) {
            fault.printStackTrace();
        }
        parts.close();
    }

    private static RestfulServer restful(AnnotationConfigApplicationContext parts, String base) {
        var server = new RestfulServer(parts.getBean(FhirContext.class));
        server.registerProviders(
                parts.getBean("myResourceProvidersR4", ResourceProviderFactory.class).createProviders());
        server.registerProvider(parts.getBean("mySystemProviderR4"));
        server.setServerConformanceProvider(
                new JpaCapabilityStatementProvider(
                        server,
                        parts.getBean(IFhirSystemDao.class),
                        parts.getBean(JpaStorageSettings.class),
                        parts.getBean(ISearchParamRegistry.class),
                        parts.getBean(IValidationSupport.class)));
        server.setPagingProvider(parts.getBean(DatabaseBackedPagingProvider.class));
        server.setDefaultResponseEncoding(EncodingEnum.JSON);
        server.setServerAddressStrategy(new HardcodedServerAddressStrategy(base));
        return server;
    }

    @Configuration
    @Import({
        JpaR4Config.class,
        HapiJpaConfig.class,
        JpaBatch2Config.class,
        Batch2JobsConfig.class,
        ThreadPoolFactoryConfig.class,
        SubscriptionChannelConfig.class,
        SubscriptionSubmitterConfig.class
    })
    public static class Parts {
        @Bean
        public JpaStorageSettings storageSettings() {
            var settings = new JpaStorageSettings();
            boolean references = Boolean.getBoolean("references");
            settings.setEnforceReferentialIntegrityOnWrite(references);
            settings.setEnforceReferentialIntegrityOnDelete(references);
            settings.setAllowExternalReferences(!references);
            // A search sees what was created a moment before.
            settings.setReuseCachedSearchResultsForMillis(null);
            return settings;
        }

        @Bean
        public PartitionSettings partitionSettings() {
            return new PartitionSettings();
        }

        @Bean
        public SubscriptionSettings subscriptionSettings() {
            return new SubscriptionSettings();
        }

        /** WRITE_DELAY=0: what was committed outlives kill -9; by default H2 may lose half a second. */
        @Bean(destroyMethod = "close")
        public BasicDataSource dataSource() {
            var source = new BasicDataSource();
            source.setDriver(new org.h2.Driver());
            source.setUrl("jdbc:h2:file:" + System.getProperty("database") + "/hapi;WRITE_DELAY=0");
            return source;
        }

        @Bean
        public LocalContainerEntityManagerFactoryBean entityManagerFactory(
                ConfigurableListableBeanFactory beans,
                FhirContext fhir,
                JpaStorageSettings settings,
                DataSource source) {
            var hibernate = new Properties();
            hibernate.put("hibernate.dialect", HapiFhirH2Dialect.class.getName());
            hibernate.put("hibernate.hbm2ddl.auto", "update");
            hibernate.put("hibernate.search.enabled", "false");
            var factory = HapiEntityManagerFactoryUtil.newEntityManagerFactory(beans, fhir, settings);
            factory.setPersistenceUnitName("hapi");
            factory.setDataSource(source);
            factory.setJpaProperties(hibernate);
            return factory;
        }

        @Bean
        @Primary
        public JpaTransactionManager transactionManager(EntityManagerFactory factory) {
            return new JpaTransactionManager(factory);
        }
    }
}
