BEGIN TRANSACTION;
CREATE TABLE assessment (
	id TEXT NOT NULL, 
	identifier TEXT NOT NULL, 
	origin TEXT NOT NULL, 
	patient_id TEXT NOT NULL, 
	encounter_id TEXT, 
	service_id TEXT NOT NULL, 
	model TEXT NOT NULL, 
	model_version TEXT NOT NULL, 
	as_of VARCHAR(27) NOT NULL, 
	received_at VARCHAR(27) NOT NULL, 
	hook_instance TEXT NOT NULL, 
	probability DOUBLE NOT NULL, 
	level TEXT NOT NULL, 
	inputs JSON NOT NULL, 
	resource JSON NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (identifier)
);
INSERT INTO "assessment" VALUES('5bc8fbbc-bde5-4099-8164-d8399f767c45','d76d4330-f144-4bea-b0c1-1fdecb91ce37','https://ehr.example.org/fhir','p1',NULL,'diabetes-risk','diabetes-undiagnosed','1.0.0','2026-03-01T12:01:00.000000Z','2026-03-01T12:01:00.000000Z','87b0b125-ec1d-4da0-a6eb-8c9ebd69fe29',3.00000000000000044408e-01,'moderate','{"glucose":0.30000000000000004,"absent":null,"name":"Zo\u00eb"}','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"d76d4330-f144-4bea-b0c1-1fdecb91ce37"}],"status":"final"}');
INSERT INTO "assessment" VALUES('3fd42359-92ed-4f45-9a1a-fe878b33e968','687c966c-377b-4aa2-bb2e-db20035b7399','https://ehr.example.org/fhir','p1',NULL,'diabetes-risk','diabetes-undiagnosed','1.0.0','2026-03-01T12:02:00.000000Z','2026-03-01T12:02:00.000000Z','de11cc9d-ea95-4c21-ae9c-82b1478c281d',3.00000000000000044408e-01,'moderate','{"glucose":0.5,"absent":null,"name":"Zo\u00eb"}','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"687c966c-377b-4aa2-bb2e-db20035b7399"}],"status":"final"}');
INSERT INTO "assessment" VALUES('f5cae3bf-3729-4619-860a-3cab359eeefb','2a9eba0c-df56-4d80-aa75-9159fb7ff337','https://ehr.example.org/fhir','Zoë-2',NULL,'diabetes-risk','diabetes-undiagnosed','1.0.0','2026-03-01T12:03:00.000000Z','2026-03-01T12:03:00.000000Z','32ea6928-f623-4bf2-904b-74ba4a0fe75d',3.00000000000000044408e-01,'moderate','{"glucose":0.7000000000000001,"absent":null,"name":"Zo\u00eb"}','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"2a9eba0c-df56-4d80-aa75-9159fb7ff337"}],"status":"final"}');
INSERT INTO "assessment" VALUES('ef901b93-2a7c-4880-aa37-53915c76f18a','54f46a69-10ac-4f00-8389-2dfc254cb864','https://ehr.example.org/fhir','p3',NULL,'diabetes-risk','diabetes-undiagnosed','1.1.0','2026-03-01T12:04:00.000000Z','2026-03-01T12:04:00.000000Z','960d5a8f-9a65-4aaf-9141-25844d25deb3',3.00000000000000044408e-01,'moderate','{"glucose":0.9,"absent":null,"name":"Zo\u00eb"}','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"54f46a69-10ac-4f00-8389-2dfc254cb864"}],"status":"final"}');
INSERT INTO "assessment" VALUES('419521fe-0e97-4cf3-ad16-34b4b4653252','f3001cee-05da-4467-b063-13fff9a01fe8','https://ehr.example.org/fhir','p4',NULL,'diabetes-risk','diabetes-undiagnosed','1.0.0','2026-03-01T12:05:00.000000Z','2026-03-01T12:05:00.000000Z','677fd139-d84a-4d3a-9b8e-8fb2bff29101',3.00000000000000044408e-01,'moderate','{"glucose":1.1,"absent":null,"name":"Zo\u00eb"}','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"f3001cee-05da-4467-b063-13fff9a01fe8"}],"status":"final"}');
CREATE TABLE audit (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	recorded_at VARCHAR(27) NOT NULL, 
	outcome TEXT NOT NULL, 
	status INTEGER NOT NULL, 
	client TEXT, 
	tenant TEXT, 
	user TEXT, 
	address TEXT, 
	patient_id TEXT, 
	hook_instance TEXT, 
	service_id TEXT, 
	model TEXT, 
	model_version TEXT
);
INSERT INTO "audit" VALUES(1,'2026-03-01T12:01:00.000000Z','assessed',200,NULL,NULL,'Practitioner/ä',NULL,'p1','87b0b125-ec1d-4da0-a6eb-8c9ebd69fe29',NULL,NULL,NULL);
INSERT INTO "audit" VALUES(2,'2026-03-01T12:01:00.000000Z','assessed',200,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "audit" VALUES(3,'2026-03-01T12:02:00.000000Z','assessed',200,NULL,NULL,'Practitioner/ä',NULL,'p1','de11cc9d-ea95-4c21-ae9c-82b1478c281d',NULL,NULL,NULL);
INSERT INTO "audit" VALUES(4,'2026-03-01T12:02:00.000000Z','assessed',200,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "audit" VALUES(5,'2026-03-01T12:03:00.000000Z','assessed',200,NULL,NULL,'Practitioner/ä',NULL,'Zoë-2','32ea6928-f623-4bf2-904b-74ba4a0fe75d',NULL,NULL,NULL);
INSERT INTO "audit" VALUES(6,'2026-03-01T12:03:00.000000Z','assessed',200,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "audit" VALUES(7,'2026-03-01T12:04:00.000000Z','assessed',200,NULL,NULL,'Practitioner/ä',NULL,'p3','960d5a8f-9a65-4aaf-9141-25844d25deb3',NULL,NULL,NULL);
INSERT INTO "audit" VALUES(8,'2026-03-01T12:04:00.000000Z','assessed',200,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "audit" VALUES(9,'2026-03-01T12:05:00.000000Z','assessed',200,NULL,NULL,'Practitioner/ä',NULL,'p4','677fd139-d84a-4d3a-9b8e-8fb2bff29101',NULL,NULL,NULL);
INSERT INTO "audit" VALUES(10,'2026-03-01T12:05:00.000000Z','assessed',200,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "audit" VALUES(11,'2026-03-01T12:00:00.000000Z','bad-request',400,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE card (
	uuid TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	indicator TEXT NOT NULL, 
	assessment_id TEXT, 
	hook_instance TEXT NOT NULL, 
	service_id TEXT NOT NULL, 
	issued_at VARCHAR(27) NOT NULL, 
	PRIMARY KEY (uuid), 
	FOREIGN KEY(assessment_id) REFERENCES assessment (id)
);
INSERT INTO "card" VALUES('c6a53877-7733-4bdb-9721-0dff076ce2ef','risk','warning','5bc8fbbc-bde5-4099-8164-d8399f767c45','0d464138-a623-4255-bfc1-ea36f17fd374','diabetes-risk','2026-03-01T12:01:00.000000Z');
INSERT INTO "card" VALUES('c30d8b76-28db-425e-a3b2-29f1c4069545','risk','warning','3fd42359-92ed-4f45-9a1a-fe878b33e968','9e30691c-2386-42ea-926a-1e48cc11d357','diabetes-risk','2026-03-01T12:02:00.000000Z');
INSERT INTO "card" VALUES('a02fdaa1-ad86-4c44-a049-548e8a0a8c96','risk','warning','f5cae3bf-3729-4619-860a-3cab359eeefb','f7f35634-f0e3-4d97-ae81-d66d346c6e2b','diabetes-risk','2026-03-01T12:03:00.000000Z');
INSERT INTO "card" VALUES('b52a43ab-ad8d-494a-9892-139600ddb74d','risk','warning','ef901b93-2a7c-4880-aa37-53915c76f18a','5af84e6b-4f59-4727-90e6-d8e6568068b9','diabetes-risk','2026-03-01T12:04:00.000000Z');
INSERT INTO "card" VALUES('6b384309-c9a9-47a6-8c8f-95ef04a012e8','risk','warning','419521fe-0e97-4cf3-ad16-34b4b4653252','d75b1e24-9419-4f4d-a059-7bdc5dbe4409','diabetes-risk','2026-03-01T12:05:00.000000Z');
CREATE TABLE feedback (
	id INTEGER NOT NULL, 
	card TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	outcome_timestamp VARCHAR(27) NOT NULL, 
	service_id TEXT NOT NULL, 
	received_at VARCHAR(27) NOT NULL, 
	client TEXT, 
	accepted_suggestions JSON NOT NULL, 
	override_reason JSON, 
	user_comment TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (card, outcome, outcome_timestamp)
);
INSERT INTO "feedback" VALUES(1,'c6a53877-7733-4bdb-9721-0dff076ce2ef','accepted','2026-03-01T12:00:00.000000Z','diabetes-risk','2026-03-01T12:00:00.000000Z',NULL,'["617959ce-3f1f-45a8-9e52-71007814e8a2"]','{"code":"x"}','é');
INSERT INTO "feedback" VALUES(2,'c30d8b76-28db-425e-a3b2-29f1c4069545','accepted','2026-03-01T12:00:00.000000Z','diabetes-risk','2026-03-01T12:00:00.000000Z',NULL,'["015c33b2-df14-41aa-b8eb-18b900745130"]','{"code":"x"}','é');
INSERT INTO "feedback" VALUES(3,'a02fdaa1-ad86-4c44-a049-548e8a0a8c96','accepted','2026-03-01T12:00:00.000000Z','diabetes-risk','2026-03-01T12:00:00.000000Z',NULL,'["0585a01c-4c7d-4df0-a21a-ef57e4cc4132"]','{"code":"x"}','é');
INSERT INTO "feedback" VALUES(4,'b52a43ab-ad8d-494a-9892-139600ddb74d','accepted','2026-03-01T12:00:00.000000Z','diabetes-risk','2026-03-01T12:00:00.000000Z',NULL,'["78f845f5-7b31-40df-af4d-4c8650d7d13f"]','{"code":"x"}','é');
INSERT INTO "feedback" VALUES(5,'6b384309-c9a9-47a6-8c8f-95ef04a012e8','accepted','2026-03-01T12:00:00.000000Z','diabetes-risk','2026-03-01T12:00:00.000000Z',NULL,'["b52fa53c-0bf6-4ef7-b3ec-28d00252f615"]','{"code":"x"}','é');
CREATE TABLE outbox (
	id TEXT NOT NULL, 
	assessment_id TEXT NOT NULL, 
	fhir_base TEXT NOT NULL, 
	client TEXT, 
	resource JSON NOT NULL, 
	state TEXT NOT NULL CHECK (state IN ('ready', 'claimed', 'delivered', 'dead')), 
	attempts INTEGER NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	available_at VARCHAR(27) NOT NULL, 
	claim_id TEXT, 
	lease_until VARCHAR(27), 
	settled_at VARCHAR(27), 
	reason TEXT, 
	location TEXT, 
	version TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (assessment_id), 
	FOREIGN KEY(assessment_id) REFERENCES assessment (id)
);
INSERT INTO "outbox" VALUES('5f2dd97f-1cfb-40f6-a827-688de6a16a3b','5bc8fbbc-bde5-4099-8164-d8399f767c45','http://127.0.0.1:8080/fhir','General Hospital','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"d76d4330-f144-4bea-b0c1-1fdecb91ce37"}],"status":"final"}','delivered',1,'2026-03-01T12:01:00.000000Z','2026-03-01T12:01:00.000000Z',NULL,NULL,'2026-03-01T13:00:00.000000Z',NULL,'RiskAssessment/9','1');
INSERT INTO "outbox" VALUES('21da8978-206f-4c66-b1e0-c07e9e115e4b','3fd42359-92ed-4f45-9a1a-fe878b33e968','http://127.0.0.1:8080/fhir','General Hospital','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"687c966c-377b-4aa2-bb2e-db20035b7399"}],"status":"final"}','dead',1,'2026-03-01T12:02:00.000000Z','2026-03-01T12:02:00.000000Z',NULL,NULL,'2026-03-01T13:00:00.000000Z','HTTP 422',NULL,NULL);
INSERT INTO "outbox" VALUES('f7108e96-f770-4226-b266-aa3bb0cde917','f5cae3bf-3729-4619-860a-3cab359eeefb','http://127.0.0.1:8080/fhir','General Hospital','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"2a9eba0c-df56-4d80-aa75-9159fb7ff337"}],"status":"final"}','claimed',1,'2026-03-01T12:03:00.000000Z','2026-03-01T12:03:00.000000Z','w1','2026-03-01T13:01:00.000000Z',NULL,NULL,NULL,NULL);
INSERT INTO "outbox" VALUES('b2489191-7b12-4dc5-8e5a-3a26d18a669a','ef901b93-2a7c-4880-aa37-53915c76f18a','http://127.0.0.1:8080/fhir','General Hospital','{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"54f46a69-10ac-4f00-8389-2dfc254cb864"}],"status":"final"}','ready',0,'2026-03-01T12:04:00.000000Z','2026-03-01T12:04:00.000000Z',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX assessment_of_patient ON assessment (patient_id, received_at, id);
CREATE INDEX assessment_newest ON assessment (received_at, id);
CREATE INDEX assessment_of_call ON assessment (hook_instance);
CREATE INDEX ix_audit_recorded_at ON audit (recorded_at);
CREATE INDEX ix_audit_patient_id ON audit (patient_id);
CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE INDEX ix_card_assessment_id ON card (assessment_id);
CREATE INDEX outbox_due ON outbox (state, available_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('audit',11);
COMMIT;
