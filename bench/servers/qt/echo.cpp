// An echo server with Qt's QTcpServer, written as in Qt's documentation.
#include <QCoreApplication>
#include <QSocketNotifier>
#include <QTcpServer>
#include <QTcpSocket>
#include <cstdio>
#include <unistd.h>

int main(int argc, char **argv) {
	QCoreApplication app(argc, argv);
	QTcpServer server;
	server.setMaxPendingConnections(1000);
	QObject::connect(&server, &QTcpServer::newConnection, [&server] {
		while (QTcpSocket *socket = server.nextPendingConnection()) {
			socket->setSocketOption(QAbstractSocket::LowDelayOption, 1);
			QObject::connect(socket, &QTcpSocket::readyRead, [socket] { socket->write(socket->readAll()); });
			QObject::connect(socket, &QTcpSocket::disconnected, socket, &QObject::deleteLater);
		}
	});
	if (!server.listen(QHostAddress::LocalHost))
		return 1;
	std::printf("= 127.0.0.1:%d\n", server.serverPort());
	std::fflush(stdout);

	QSocketNotifier input(0, QSocketNotifier::Read);
	QObject::connect(&input, &QSocketNotifier::activated, [] {
		char line[64];
		if (read(0, line, sizeof line) <= 0) {
			QCoreApplication::quit();
			return;
		}
		std::puts("= 0"); // the heap is not counted
		std::fflush(stdout);
	});
	return app.exec();
}
